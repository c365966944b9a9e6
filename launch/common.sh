# shellcheck shell=bash
# Shared by the launchers: to refuse in one line, and to run a command or print it (DRY_RUN=1).

launcher=$(basename "$0")

say() { printf '%s: %s\n' "$launcher" "$*" >&2; }

# A user's mistake: one line, status 2.
refuse() {
  say "$*"
  exit 2
}

# need NAME MEANING: the variable must be set.
need() { [[ -n ${!1:-} ]] || refuse "$1 is not set: $2"; }

# whole NAME DEFAULT LEAST: sets the variable to DEFAULT if unset; it must be a whole number from LEAST on.
whole() {
  [[ -n ${!1:-} ]] || printf -v "$1" '%s' "$2"
  if [[ ! ${!1} =~ ^[0-9]{1,9}$ ]] || ((10#${!1} < $3)); then
    refuse "$1 is ${!1}: it must be a whole number from $3 on"
  fi
}

# The words as a shell would read them back.
quoted() {
  local word flag out=()
  for word in "$@"; do
    flag=
    if [[ ! $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then
      if [[ $word =~ ^--[a-z-]+= ]]; then flag=${BASH_REMATCH[0]}; fi
      word=${word#"$flag"}
      word="'${word//\'/\'\\\'\'}'"
    fi
    out+=("$flag$word")
  done
  printf '%s\n' "${out[*]}"
}

dry() { [[ ${DRY_RUN:-0} == 1 ]]; }

# Run the command, or print it.
run() {
  if dry; then quoted "$@"; else "$@"; fi
}

# The value of --workdir among the arguments; nothing if it is not there.
workdir_of() {
  while (($#)); do
    case $1 in
      --workdir=*) printf '%s\n' "${1#--workdir=}" ;;
      --workdir) printf '%s\n' "${2:-}" ;;
    esac
    shift
  done
}

# A launcher is run again to continue, so the folder must be named and stay the same.
need_workdir() {
  (($#)) || refuse "give cdml's arguments: train --config=NAME --workdir=DIR"
  [[ -n $(workdir_of "$@") ]] || refuse "--workdir is not given: it is where the run is kept and continued"
}

# Where the machines share no current directory.
need_absolute_workdir() {
  need_workdir "$@"
  [[ $(workdir_of "$@") =~ ^(/|gs://) ]] ||
    refuse "--workdir must be an absolute path on storage that all machines share, or gs://BUCKET/FOLDER"
}

# fits SLICE ARGUMENTS: before anything is created, compile the step of `cdml train` or `reproduce` for the slice,
# here and without a TPU: whether it fits, how long it takes, what it costs. CDML_COMPILE=0 goes without.
# CDML_PRICE is that of a chip-hour; CDML_CLASSES and CDML_IMAGES are needed where the images are not here.
fits() {
  local slice=$1 command=${2:-} argument asked=()
  [[ ${CDML_COMPILE:-1} != 0 && $command =~ ^(train|reproduce)$ ]] || return 0
  shift 2
  [[ -z ${CDML_PRICE:-} ]] || asked+=("--price=$CDML_PRICE")
  [[ -z ${CDML_CLASSES:-} ]] || asked+=("--classes=$CDML_CLASSES")
  [[ -z ${CDML_IMAGES:-} ]] || asked+=("--images=$CDML_IMAGES")
  for argument; do
    if [[ $argument == --config[=.]* ]]; then asked+=("$argument"); fi
  done
  dry || command -v cdml >/dev/null ||
    refuse "there is no command cdml here to see whether the run fits; install cdml_jax[train,tpu], or set CDML_COMPILE=0"
  run cdml compile "--topology=$slice" "${asked[@]}" ||
    refuse "nothing was created: cdml compile says why above; CDML_COMPILE=0 starts without it"
}
