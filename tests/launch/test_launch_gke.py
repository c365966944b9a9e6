"""GKE: the manifests that are rendered, and a kubectl that answers from a file."""

import importlib.util
import os
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

GKE = Path(__file__).parents[2] / "launch" / "gke"
ROOT = GKE.parents[1]
SLICE = {
    "CDML_NAME": "cub",
    "CDML_IMAGE": "us-docker.pkg.dev/birds/cdml/cdml:1",
    "CDML_CLAIM": "runs",
    "CDML_TPU_ACCELERATOR": "tpu-v5-lite-podslice",
    "CDML_TPU_TOPOLOGY": "4x4",
}
RUN = ("train", "--config=cub", "--workdir=/shared/runs/cub")


specification = importlib.util.spec_from_file_location("render", GKE / "render.py")
render = importlib.util.module_from_spec(specification)
specification.loader.exec_module(render)


@pytest.fixture
def manifests(monkeypatch):
    """Renders as the script does, in this process."""
    for name in [name for name in os.environ if name.startswith("CDML_")]:
        monkeypatch.delenv(name)

    def rendered(*more, **variables):
        for name, value in (SLICE | variables).items():
            monkeypatch.setenv(name, str(value))
        account, jobset = yaml.safe_load_all(render.rendered([*RUN, *more]))
        return account, jobset

    return rendered


def pod_of(jobset):
    return jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


def test_jobset_has_what_its_api_requires(manifests):
    _, jobset = manifests()
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert jobset["metadata"]["name"] == "cub"
    assert jobset["metadata"]["namespace"] == "default"
    (jobs,) = jobset["spec"]["replicatedJobs"]
    assert (jobs["name"], jobs["replicas"]) == ("slice", 1)
    job = jobs["template"]["spec"]
    assert (job["parallelism"], job["completions"], job["completionMode"]) == (4, 4, "Indexed")
    (container,) = pod_of(jobset)["containers"]
    assert container["name"] == "cdml"
    assert container["image"] == SLICE["CDML_IMAGE"]
    assert container["args"] == list(RUN)
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"google.com/tpu": 4}
    assert {"name": "CDML_DISTRIBUTED", "value": "auto"} in container["env"]
    assert all(isinstance(variable["value"], str) for variable in container["env"])


def test_a_slice_has_one_node_pool_with_its_labels(manifests):
    _, jobset = manifests()
    annotation = "alpha.jobset.sigs.k8s.io/exclusive-topology"
    assert jobset["metadata"]["annotations"][annotation] == "cloud.google.com/gke-nodepool"
    assert pod_of(jobset)["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }


def test_a_mistake_fails_the_set_and_all_else_starts_it_again(manifests):
    _, jobset = manifests(CDML_MAX_RESTARTS=7)
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 7
    assert [(rule["action"], rule["onJobFailureReasons"]) for rule in policy["rules"]] == [
        ("FailJobSet", ["PodFailurePolicy"])
    ]
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule == {
        "action": "FailJob",
        "onExitCodes": {"containerName": "cdml", "operator": "In", "values": [2]},
    }
    assert pod_of(jobset)["restartPolicy"] == "Never"  # a pod failure policy needs it
    assert pod_of(jobset)["terminationGracePeriodSeconds"] >= 60


def test_workdir_is_on_the_claim(manifests):
    _, jobset = manifests()
    (mount,) = pod_of(jobset)["containers"][0]["volumeMounts"]
    (volume,) = pod_of(jobset)["volumes"]
    assert mount == {"name": volume["name"], "mountPath": "/shared"}
    assert volume["persistentVolumeClaim"] == {"claimName": "runs"}


def test_a_workdir_in_a_bucket_needs_no_claim(launch, manifests):
    variables = {name: value for name, value in SLICE.items() if name != "CDML_CLAIM"}
    run = ("train", "--config=cub", "--workdir=gs://bucket/runs/cub")
    printed = launch("gke.sh", "render", *run, **variables).stdout
    _, jobset = yaml.safe_load_all(printed)
    (container,) = pod_of(jobset)["containers"]
    assert container["args"] == list(run)
    assert container["volumeMounts"] == pod_of(jobset)["volumes"] == []


def test_service_account(manifests):
    account, jobset = manifests(CDML_SERVICE_ACCOUNT="painter", CDML_NAMESPACE="art")
    assert (account["apiVersion"], account["kind"]) == ("v1", "ServiceAccount")
    assert account["metadata"] == {"name": "painter", "namespace": "art"}
    assert account["automountServiceAccountToken"] is False
    assert pod_of(jobset)["serviceAccountName"] == "painter"
    assert jobset["metadata"]["namespace"] == "art"


@pytest.mark.parametrize(
    ("variables", "hosts", "chips"),
    [
        ({"CDML_TPU_TOPOLOGY": "2x4", "CDML_CHIPS_PER_HOST": 8}, 1, 8),
        ({"CDML_TPU_TOPOLOGY": "16x16"}, 64, 4),
        ({"CDML_TPU_TOPOLOGY": "2x2x4", "CDML_TPU_ACCELERATOR": "tpu-v5p-slice"}, 4, 4),
    ],
)
def test_hosts_follow_from_the_topology(manifests, variables, hosts, chips):
    _, jobset = manifests(CDML_SLICES=2, **variables)
    (jobs,) = jobset["spec"]["replicatedJobs"]
    assert jobs["replicas"] == 2
    assert jobs["template"]["spec"]["parallelism"] == hosts
    assert pod_of(jobset)["containers"][0]["resources"]["limits"] == {"google.com/tpu": chips}


@pytest.mark.parametrize(
    ("variables", "label"),
    [
        ({"CDML_TIER": "spot"}, {"cloud.google.com/gke-spot": "true"}),
        (
            {"CDML_TIER": "reserved", "CDML_RESERVATION": "spring"},
            {"cloud.google.com/reservation-name": "spring"},
        ),
    ],
)
def test_tier_is_a_label_of_nodes(manifests, variables, label):
    _, jobset = manifests(**variables)
    assert label.items() <= pod_of(jobset)["nodeSelector"].items()


def test_arguments_stay_what_they_are(manifests):
    odd = ('--config.source=list:/shared/a "b"', "--config.seed=3", "--config.x=${HOME}: [1]")
    _, jobset = manifests(*odd)
    assert pod_of(jobset)["containers"][0]["args"] == [*RUN, *odd]


@pytest.mark.parametrize("missing", sorted(SLICE))
def test_missing_variable_is_named(manifests, missing):
    with pytest.raises(render.Refused, match=f"^{missing} is not set: "):
        manifests(**{missing: ""})


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"CDML_TPU_TOPOLOGY": "16"}, "it must look like 4x4 or 2x2x4"),
        ({"CDML_CHIPS_PER_HOST": "3"}, "it must divide the 16 chips of 4x4"),
        ({"CDML_TIER": "free"}, "it must be on-demand, spot or reserved"),
        ({"CDML_TIER": "reserved"}, "CDML_RESERVATION is not set"),
        ({"CDML_NAME": "Cub_1"}, "lower case letters, digits and hyphens"),
        ({"CDML_SLICES": "0"}, "CDML_SLICES is 0"),
    ],
)
def test_impossible_values_are_refused(manifests, variables, said):
    with pytest.raises(render.Refused, match=said):
        manifests(**variables)


@pytest.mark.parametrize(
    ("without", "arguments", "said"),
    [
        ("CDML_CLAIM", RUN, "render.py: CDML_CLAIM is not set: "),
        ("", ("train", "--workdir=/tmp/cub"), "--workdir=/shared/... or gs://... is needed"),
        ("", ("train",), "--workdir is not given"),
    ],
)
def test_refusals_are_one_line_and_start_nothing(launch, without, arguments, said):
    launch.fake("kubectl", "")
    variables = {name: value for name, value in SLICE.items() if name != without}
    assert said in launch.refused("gke.sh", "apply", *arguments, **variables)


def test_dry_run_prints_commands_and_manifests(launch):
    launch.fake("kubectl", "exit 1")
    launch.fake("docker", "exit 1")
    result = launch("gke.sh", "apply", *RUN, DRY_RUN=1, **SLICE)
    compiling = "cdml compile --topology=tpu-v5-lite-podslice:4x4 --config=cub\n"
    assert result.stdout.startswith(f"{compiling}kubectl apply -f -\n")
    assert "\nkind: JobSet\n" in result.stdout
    image = launch("gke.sh", "image", DRY_RUN=1, **SLICE)
    assert image.stdout.splitlines() == [
        f"docker build -f {GKE}/Dockerfile -t {SLICE['CDML_IMAGE']} {ROOT}",
        f"docker push {SLICE['CDML_IMAGE']}",
    ]
    logs = launch("gke.sh", "logs", DRY_RUN=1, **SLICE)
    assert logs.stdout == "kubectl logs -f job/cub-slice-0 -n default -c cdml\n"
    delete = launch("gke.sh", "delete", DRY_RUN=1, **SLICE)
    assert delete.stdout == "kubectl delete jobset cub -n default --ignore-not-found\n"
    assert launch.calls() == []


@pytest.mark.parametrize(
    ("there", "verbs"),
    [
        ("", ["get", "apply"]),
        ("cub ", ["get"]),
        ("cub Completed", ["get", "delete", "apply"]),
        ("cub Failed", ["get", "delete", "apply"]),
    ],
)
def test_a_run_is_started_once_and_replaced_when_it_has_ended(launch, there, verbs):
    launch.fake("kubectl", f'case $1 in get) printf "{there}" ;; apply) cat >applied ;; esac')
    launch.fake("cdml", "")
    result = launch("gke.sh", "apply", *RUN, **SLICE)
    assert result.returncode == 0, result.stderr
    assert [call.split()[1] for call in launch.calls("kubectl")] == verbs
    assert len(launch.calls("cdml compile")) == verbs.count("apply")
    if "apply" in verbs:
        kinds = [each["kind"] for each in yaml.safe_load_all((launch.folder / "applied").read_text())]
        assert kinds == ["ServiceAccount", "JobSet"]


def test_what_does_not_fit_is_not_started(launch):
    launch.fake("kubectl", 'case $1 in get) printf "cub Failed" ;; esac')
    launch.fake("cdml", "echo 'cdml: it does not fit' >&2; exit 2")
    several = {"CDML_SLICES": 2, "CDML_PRICE": 1.2, "CDML_CLASSES": 200, "CDML_IMAGES": 5994}
    result = launch("gke.sh", "apply", *RUN, **SLICE, **several)
    assert result.returncode == 2
    assert "it does not fit\ngke.sh: nothing was created: " in result.stderr
    asked = "--topology=2*tpu-v5-lite-podslice:4x4 --price=1.2 --classes=200 --images=5994 --config=cub"
    assert launch.calls("cdml") == [f"cdml compile {asked}"]
    assert [call.split()[1] for call in launch.calls("kubectl")] == ["get"]
    result = launch("gke.sh", "apply", *RUN, **SLICE, CDML_COMPILE=0)
    assert result.returncode == 0
    assert [call.split()[1] for call in launch.calls("kubectl")][1:] == ["get", "delete", "apply"]
    assert len(launch.calls("cdml")) == 1


def test_a_cluster_that_does_not_answer_ends_it(launch):
    launch.fake("kubectl", "echo 'connection refused' >&2; exit 1")
    result = launch("gke.sh", "apply", *RUN, **SLICE)
    assert result.returncode == 1
    assert "connection refused" in result.stderr
    assert len(launch.calls("kubectl")) == 1


def test_image_holds_what_the_package_is_built_from():
    file = (GKE / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["cdml"]' in file  # without a shell, SIGTERM reaches cdml
    kept = {
        line[1:]
        for line in (GKE / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert kept >= {"cdml_jax", "configs", "constraints.txt", "setup.cfg", "pyproject.toml", "README.md"}
    assert all((ROOT / name).exists() for name in kept)
