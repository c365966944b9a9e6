#!/usr/bin/env python3
"""Print this folder's manifests, filled in from the environment: render.py [cdml's arguments].

A missing or impossible value is refused in one line, with status 2. The names are those of launch/gke.sh.
Standard library alone.
"""

import json
import math
import os
import re
import string
import sys
from collections.abc import Sequence
from pathlib import Path

MOUNT = "/shared"
BUCKET = "gs://"


class Refused(Exception):  # noqa: N818 - it is an answer
    """What the user has to change."""


def needed(name: str, meaning: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise Refused(f"{name} is not set: {meaning}")
    return value


def whole(name: str, default: int, least: int) -> int:
    value = os.environ.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,9}", value) or int(value) < least:
        raise Refused(f"{name} is {value}: it must be a whole number from {least} on")
    return int(value)


def dns_name(name: str, value: str) -> str:
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", value):
        raise Refused(f"{name} is {value}: lower case letters, digits and hyphens, 40 at most")
    return value


def jobset_values(arguments: Sequence[str]) -> dict[str, str]:
    topology = needed("CDML_TPU_TOPOLOGY", "chips of a slice along each axis, such as 4x4")
    if not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*){1,2}", topology):
        raise Refused(f"CDML_TPU_TOPOLOGY is {topology}: it must look like 4x4 or 2x2x4")
    chips = whole("CDML_CHIPS_PER_HOST", 4, 1)
    all_chips = math.prod(int(axis) for axis in topology.split("x"))
    if all_chips % chips:
        raise Refused(f"CDML_CHIPS_PER_HOST is {chips}: it must divide the {all_chips} chips of {topology}")
    selector = {
        "cloud.google.com/gke-tpu-accelerator": needed(
            "CDML_TPU_ACCELERATOR", "the node pools' label, such as tpu-v5-lite-podslice"
        ),
        "cloud.google.com/gke-tpu-topology": topology,
    }
    tier = os.environ.get("CDML_TIER") or "on-demand"
    if tier == "spot":
        selector["cloud.google.com/gke-spot"] = "true"
    elif tier == "reserved":
        selector["cloud.google.com/reservation-name"] = needed("CDML_RESERVATION", "the reservation's name")
    elif tier != "on-demand":
        raise Refused(f"CDML_TIER is {tier}: it must be on-demand, spot or reserved")
    folders = [a.removeprefix("--workdir=") for a in arguments if a.startswith("--workdir=")]
    if len(folders) != 1 or not folders[0].startswith((f"{MOUNT}/", BUCKET)):
        raise Refused(
            f"--workdir={MOUNT}/... or {BUCKET}... is needed: the claim is mounted at {MOUNT}, for every pod"
        )
    mounts, volumes = [], []
    if os.environ.get("CDML_CLAIM") or not folders[0].startswith(BUCKET):
        claim = needed("CDML_CLAIM", "the PersistentVolumeClaim of the shared storage")
        mounts = [{"name": "shared", "mountPath": MOUNT}]
        volumes = [{"name": "shared", "persistentVolumeClaim": {"claimName": claim}}]
    return {
        "namespace": dns_name("CDML_NAMESPACE", os.environ.get("CDML_NAMESPACE") or "default"),
        "service_account": dns_name("CDML_SERVICE_ACCOUNT", os.environ.get("CDML_SERVICE_ACCOUNT") or "cdml"),
        "name": dns_name("CDML_NAME", needed("CDML_NAME", "the run's name in the cluster")),
        "max_restarts": str(whole("CDML_MAX_RESTARTS", 100, 0)),
        "slices": str(whole("CDML_SLICES", 1, 1)),
        "hosts": str(all_chips // chips),
        "chips": str(chips),
        "node_selector": json.dumps(selector),
        "image": json.dumps(needed("CDML_IMAGE", "the container image, as it is pushed")),
        "arguments": json.dumps(list(arguments)),
        "mounts": json.dumps(mounts),
        "volumes": json.dumps(volumes),
    }


def rendered(arguments: Sequence[str]) -> str:
    folder = Path(__file__).parent
    values = jobset_values(arguments)
    files = (folder / "service_account.yaml", folder / "jobset.yaml")
    return "---\n".join(string.Template(file.read_text()).substitute(values) for file in files)


def main() -> int:
    try:
        sys.stdout.write(rendered(sys.argv[1:]))
    except Refused as refusal:
        print(f"render.py: {refusal}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
