"""The modules that read untrusted files or write outputs, and the tests of their checks."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]
_FOLDERS = {
    "vae_runtime": "runtime", "vae_train": "train", "vae_export": "export", "vae_models": "models",
}  # fmt: skip
_LIMITS = ["security/test_limits.py", "security/test_graph_limits.py"]
_GRAPHS = [*_LIMITS, "security/test_graphs.py", "security/test_bit_rot.py"]
_CHECKS = [*_GRAPHS, "security/test_operator_rules.py", "security/test_lying_bundles.py"]
_BUNDLES = [*_LIMITS, "conformance/test_conformance.py", "security/test_bit_rot.py",
            "runtime/test_manifest.py"]  # fmt: skip
_FILES = ["runtime/test_files.py", "runtime/test_abandoned.py", "security/test_limits.py",
          "security/test_full_disk.py"]  # fmt: skip
_POINTS = ["train/test_checkpoint.py", "security/test_hostile_checkpoints.py"]
_DATA = ["runtime/test_datasets_idx.py", "runtime/test_datasets_files.py",
         "runtime/test_datasets_npz.py",
         "runtime/test_datasets_downloads.py",
         "runtime/test_datasets_digits.py",
         "runtime/test_layouts.py", "runtime/test_reading.py",
         "security/test_limits.py", "security/test_headers.py"]  # fmt: skip
_ARROW = [
    "arrow/test_job.py",
    "arrow/test_job_faults.py",
    "arrow/test_plan.py",
    "arrow/test_resume.py",
    "arrow/test_mapper.py",
    "arrow/test_mapper_calls.py",
    "arrow/test_parquet_dataset.py",
]
_EXPORT = ["export/test_contract.py", "export/test_parity_check.py", "export/test_custom_module.py",
           "export/test_variants.py", "export/test_targets.py"]  # fmt: skip
_TESTS: dict[str, list[str]] = {
    "vae_runtime.graph_checks.protobuf": _GRAPHS,
    "vae_runtime.graph_checks.nodes": _CHECKS,
    "vae_runtime.graph_checks.model": _CHECKS,
    "vae_runtime.bundle.checksums": _GRAPHS,
    "vae_runtime.graph_checks.check": _CHECKS,
    "vae_runtime.graph_checks.shapes": _CHECKS,
    "vae_runtime.graph_checks.layers": _CHECKS,
    "vae_runtime.graph_checks.call": _CHECKS,
    "vae_runtime.graph_checks.values": _CHECKS,
    "vae_runtime.bundle.archive": _BUNDLES,
    "vae_runtime.bundle.reader": _BUNDLES,
    "vae_runtime.files.json_fields": _BUNDLES,
    "vae_runtime.bundle.spec": [*_BUNDLES, "runtime/test_gaussian.py"],
    "vae_runtime.bundle.manifest": _BUNDLES,
    "vae_runtime.prior": ["runtime/test_prior.py", "runtime/test_prior_forms.py",
                          "conformance/test_conformance.py"],
    "vae_runtime.detection.normality": ["runtime/test_detection.py"],
    "vae_runtime.detection.quality": ["runtime/test_detection.py"],
    "vae_runtime.verification": ["runtime/test_golden.py", "security/test_verify.py", *_BUNDLES],
    "vae_runtime.graphs": ["runtime/test_graphs.py", "security/test_limits.py",
                           "runtime/test_api.py", "security/test_bit_rot.py"],
    "vae_runtime.arrays": ["runtime/test_arrays.py", "security/test_wrong_numbers.py"],
    "vae_runtime.labels": ["runtime/test_arrays.py", "security/test_wrong_numbers.py"],
    "vae_runtime.files.npz": ["runtime/test_golden.py", *_DATA],
    "vae_runtime.datasets.arrays": _DATA,
    "vae_runtime.datasets.classes": _DATA,
    "vae_runtime.datasets.dataset": _DATA,
    "vae_runtime.datasets.downloads": _DATA,
    "vae_runtime.datasets.folder": _DATA,
    "vae_runtime.datasets.idx": _DATA,
    "vae_runtime.datasets.layout": _DATA,
    "vae_runtime.datasets.load": _DATA,
    "vae_runtime.datasets.pixels": _DATA,
    "vae_runtime.files.atomic": _FILES,
    "vae_runtime.images": ["runtime/test_images.py", "runtime/test_pictures.py",
                           "runtime/test_layouts.py",
                           "security/test_hostile_images.py"],
    "vae_runtime.arrow.columns": _ARROW,
    "vae_runtime.arrow.job": _ARROW,
    "vae_runtime.arrow.mapper": _ARROW,
    "vae_runtime.arrow.storage": _ARROW,
    "vae_runtime.arrow.plan": _ARROW,
    "vae_runtime.datasets.parquet": _ARROW,
    "vae_runtime.studio.serve": ["studio/test_serve.py"],
    "vae_models.config": ["models/test_config.py", *_POINTS],
    "vae_train.config": ["train/test_config.py", *_POINTS],
    "vae_train.config_file": ["train/test_config_file.py"],
    "vae_train.checkpoint_file": _POINTS,
    "vae_train.checkpoint": _POINTS,
    "vae_train.options": ["train/test_cli_errors.py"],
    "vae_train.run": ["train/test_bad_data.py", "train/test_run.py", "train/test_config.py"],
    "vae_train.run_folder": ["train/test_resume.py"],
    "vae_export.source": _EXPORT,
    "vae_export.contract": _EXPORT,
    "vae_export.writer": _EXPORT,
}  # fmt: skip
# By module: the start of a surviving check, and the reason why disabling it has no effect.
EQUIVALENT: dict[str, dict[str, str]] = {}


def names() -> list[str]:
    """Return the modules whose checks are disabled."""
    return list(_TESTS)


def source_of(module: str) -> Path:
    """Return the file of a module."""
    package, *parts = module.split(".")
    return ROOT.joinpath(_FOLDERS[package], package, *parts).with_suffix(".py")


def files_of(module: str) -> list[str]:
    """Return the test files of a module, as arguments for pytest."""
    return [f"tests/{name}" for name in _TESTS[module]]
