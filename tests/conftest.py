"""Eight simulated devices for every test, named before JAX looks for them, and each program compiled once."""

import getpass
import importlib.util
import tempfile
from pathlib import Path

import jax
import jaxtyping
import pytest
import shape_checks

shape_checks.install("cdml_jax")

jax.config.update("jax_num_cpu_devices", 8)
# Many tests compile the same tiny step; the workers of a parallel run share what one has compiled.
_CACHE = Path(tempfile.gettempdir()) / f"cdml_jax-tests-{getpass.getuser()}-jax{jax.__version__}"
jax.config.update("jax_compilation_cache_dir", str(_CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


# The files that take longest, by measured seconds: begun last, one of them would keep one worker waiting.
_LONGEST = (
    "faults/test_processes.py",
    "runs/test_runs_by_command.py",
    "distributed/test_mesh.py",
    "models/test_goldens.py",
    "cli/test_own_images.py",
    "runs/test_checkpoint.py",
    "models/test_models.py",
    "test_extending.py",
    "training/test_terms.py",
    "training/test_step.py",
    "test_readme.py",
    "test_examples.py",
    "runs/test_loop.py",
    "test_bad_input.py",
    "test_cli.py",
)


# Long ones, of what another test of the gate proves in part or at one size; `make test-all` runs them.
_SLOW = (
    "benchmarks/test_tpu_steps.py::test_a_piece_in_the_packages_form_compiles",
    "cli/test_descriptor_commands.py::",
    "cli/test_in_buckets.py::test_features_and",
    "cli/test_other_systems_by_command.py::",
    "docs/test_tutorial.py::test_the_tutorial",
    "distributed/test_collectives.py::test_bytes_of_a_device",
    "distributed/test_mesh.py::test_microbatches_and_hardest_triplets",
    "distributed/test_mesh.py::test_results_do_not_depend_on_the_mesh[2-{'model'",
    "distributed/test_mesh.py::test_results_do_not_depend_on_the_mesh[8-",
    "faults/test_kills.py::test_a_run_survives_kills_at_random_moments",
    "faults/test_processes.py::test_a_killed_process_ends_the_other",
    "faults/test_processes.py::test_a_signal_to_one",
    "faults/test_processes.py::test_an_image_that_one_process",
    "faults/test_processes.py::test_four_processes",
    "faults/test_processes.py::test_one_process_continues",
    "faults/test_processes.py::test_the_same_command",
    "faults/test_processes.py::test_two_processes_keep_their_run_in_a_bucket",
    "faults/test_processes.py::test_two_processes_share_large_label_spaces",
    "faults/test_processes.py::test_two_processes_train_as_one_over_many_steps",
    "inference/test_export.py::test_onnx_says",
    "methods/test_other_systems_trained.py::",
    "methods/test_pairwise_confusion.py::test_a_term_is_trained",
    "models/test_convolution.py::test_values_and_gradients_are_those_of_xla[few",
    "models/test_goldens.py::test_outputs_are_those_of_the_reference[googlenet",
    "models/test_goldens.py::test_outputs_are_those_of_the_reference[mobilenet_v2.t",
    "models/test_goldens.py::test_outputs_are_those_of_the_reference[vgg",
    "models/test_goldens.py::test_outputs_are_those_of_the_reference[vit_small_patch14",
    "models/parts/test_object_crop.py::test_batch_norm",
    "models/test_initial_parameters.py::",
    "models/test_models.py::test_every_option_that_a_network_names",
    "models/test_models.py::test_float64",
    "models/test_network.py::test_recomputed",
    "runs/test_checkpoint.py::test_a_run_moves_to_another_number_of_devices",
    "runs/test_checkpoint.py::test_every_damaged",
    "runs/test_checkpoint.py::test_on_other_devices_state_and_plan",
    "runs/test_cross_validation.py::test_the_table_trains",
    "runs/test_loop.py::test_one_compiled",
    "runs/test_runs_by_command.py::test_a_folder_whose_checkpoints_would_be_lost",
    "runs/test_runs_by_command.py::test_a_run_begins_with_another",
    "runs/test_runs_by_command.py::test_a_save_that_fails_prints_one_line",
    "runs/test_runs_by_command.py::test_a_user_whom_the_machine",
    "runs/test_runs_by_command.py::test_folds_hold_every_image",
    "test_configs.py::test_two_steps_of_it_run",
    "test_extending.py::test_a_method_of_ones_own_trains",
    "test_extending.py::test_arrays_are_a_data_set",
    "test_extending.py::test_costs_and_terms_of_ones_own_train",
    "test_extending.py::test_the_example_with_arrays_learns",
    "test_flip_bits.py::",
    "training/test_image_parts.py::test_a_step",
    "training/test_image_parts.py::test_it_begins_as_the_baseline_and_says_what_it_cannot_have[nts_net",
    "training/test_frozen.py::test_eight_devices_train_what_one_trains",
    "training/test_other_systems.py::test_the_step_is_that_of_the_global_batch",
    "training/test_step.py::test_bfloat16_activations_train",
    "training/test_step.py::test_devices_agree_over_a_few_steps[4]",
    "training/test_storage.py::test_a_run_continues_here_and_on_other_devices",
    "training/test_terms.py::test_one_step",
    "training/test_terms.py::test_terms_are_those_of_the_global_batch",
    "training/test_terms.py::test_terms_of_no_weight_change_nothing",
)


def pytest_collection_modifyitems(items):
    """Whole files, the longest first: `make test` gives each worker a file at a time (`--dist=loadfile`)."""
    tests = Path(__file__).parent
    place = {tests / name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
    for item in items:
        if item.path.is_relative_to(tests):
            name = f"{item.path.relative_to(tests).as_posix()}::{item.nodeid.partition('::')[2]}"
            if name.startswith(_SLOW):
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def loud_again():
    """What one test's `--quiet` sets is not the next one's."""
    from cdml_jax.system import console  # here: once its shapes are checked

    yield
    console.set_verbosity(console.Verbosity.NORMAL)


@pytest.fixture(scope="session")
def stand_in():
    """A server that stands in for Google Cloud Storage."""
    if importlib.util.find_spec("gcsfs") is None:  # not imported: the package says in which form it is used
        pytest.skip("cdml_jax[gcs] is not installed")
    from stand_in_bucket import StandIn  # here: it needs what comes with the extra

    server = StandIn()
    yield server
    server.close()


@pytest.fixture(scope="module")
def bucket(stand_in):
    """An empty gs://bucket of the stand-in, as a path."""
    from cdml_jax.system import buckets, files

    stand_in.buckets.clear()
    stand_in.buckets["bucket"] = {}
    stand_in.requests.clear()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stand_in.environment.items():
            patch.setenv(name, value)
        yield files.path_of("gs://bucket")
    buckets._refuse_unreachable.cache_clear()
    buckets.refuse_without_rights.cache_clear()


@pytest.fixture
def strict_shapes():
    """Ranks are never promoted in silence inside the objective."""
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def unchecked_shapes():
    """Arguments of wrong shapes reach the package, whose own refusal is what the test is about."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield
