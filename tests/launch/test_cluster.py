import io
import sys
from contextlib import redirect_stderr

import pytest
from omegaconf import OmegaConf
from submitit.core.utils import CommandFunction, FailedJobError

from rebuttal.errors import ConfigError
from rebuttal.launch.cluster import sbatch_refusals
from tests.command_line import ROOT, process

LAUNCHER = {
    "partition": "nix",
    "account": None,
    "qos": "fast",
    "timeout_min": 99999,
    "mem_gb": 16,
    "constraint": "a100",
}
LAUNCHER |= {"gpus_per_node": 9, "cpus_per_task": 999, "additional_parameters": {"mail-typ": "FAIL"}}
HYDRA = OmegaConf.create({"launcher": LAUNCHER, "sweeper": {"max_batch_size": None}})
FAILED = "Batch job submission failed: "
# SLURM's own words (slurm_errno.c and sbatch.c), and how the line begins.
SAID = {
    f"invalid partition specified: nix\n{FAILED}Invalid partition name specified": "hydra.launcher.partition=nix",
    f"{FAILED}User's group not permitted to use this partition": "hydra.launcher.partition=nix",
    f"{FAILED}Invalid account or account/partition combination specified": "hydra.launcher.account=null",
    f"{FAILED}Invalid qos specification": "hydra.launcher.qos=fast",
    f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)": (
        "hydra.launcher.qos=fast"
    ),
    f"{FAILED}Invalid job array specification": "hydra.sweeper.max_batch_size=null",
    f"{FAILED}Requested time limit is invalid (missing or exceeds some limit)": "hydra.launcher.timeout_min=99999",
    f"{FAILED}Invalid feature specification": "hydra.launcher.constraint=a100",
    f"{FAILED}Invalid generic resource (gres) specification": "hydra.launcher.gpus_per_node=9",
    "Memory specification can not be satisfied": "hydra.launcher.mem_gb=16",
    "CPU count per node can not be satisfied": "hydra.launcher.cpus_per_task=999",
    f"{FAILED}Requested node configuration is not available": (
        "hydra.launcher.cpus_per_task=999 hydra.launcher.mem_gb=16 hydra.launcher.gpus_per_node=9"
    ),
    "Invalid --begin specification": "hydra.launcher.additional_parameters={'mail-typ': 'FAIL'}",
    "unrecognized option '--mail-typ=FAIL'": "hydra.launcher.additional_parameters={'mail-typ': 'FAIL'}",
    f"{FAILED}Unable to contact slurm controller (connect failure)": "hydra/launcher=slurm",
}


def sbatch(folder, text):
    """A program that refuses as sbatch does."""
    folder.mkdir()
    lines = "\n".join(f'echo "sbatch: error: {line}" >&2' for line in text.splitlines())
    for name, body in {"sbatch": f"{lines}\nexit 1", "srun": "exit 1", "squeue": "exit 0"}.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("text", SAID)
def test_what_sbatch_refuses_is_a_line_with_its_words_and_the_key(text, tmp_path):
    program = sbatch(tmp_path / "bin", text) / "sbatch"
    printed = io.StringIO()
    with redirect_stderr(printed), pytest.raises(ConfigError) as caught, sbatch_refusals(HYDRA):
        CommandFunction([str(program)], verbose=False)()  # as submitit calls it
    words = text.replace("\n", "; ")
    assert str(caught.value).startswith(f"{SAID[text]}: sbatch: {words}")
    assert printed.getvalue() == ""


def test_lines_that_sbatch_prints_without_its_name_are_part_of_its_words(tmp_path):
    program = sbatch(tmp_path / "bin", "Invalid --begin specification") / "sbatch"
    program.write_text(program.read_text().replace("echo", "echo 'Invalid time specification: nix' >&2; echo", 1))
    printed = io.StringIO()
    with redirect_stderr(printed), pytest.raises(ConfigError) as caught, sbatch_refusals(HYDRA):
        CommandFunction([str(program)], verbose=False)()
    assert ": sbatch: Invalid time specification: nix; Invalid --begin specification; " in str(caught.value)
    assert printed.getvalue() == ""


def test_other_errors_and_other_words_pass(tmp_path):
    printed = io.StringIO()
    with redirect_stderr(printed), pytest.raises(FailedJobError), sbatch_refusals(HYDRA):
        print("a warning", file=sys.stderr)
        CommandFunction([str(sbatch(tmp_path / "bin", "no")).replace("bin", "bin/srun")], verbose=False)()
    assert printed.getvalue() == "a warning\n"


@pytest.mark.slow
def test_a_sweep_that_sbatch_refuses_ends_in_one_line(tmp_path):
    path = sbatch(tmp_path / "bin", "invalid partition specified: nix\nBatch job submission failed: Invalid partition")
    sweep = ["-m", "debug=tiny", "seed=0,1", "hydra.sweeper.params=null", "hydra.sweep.dir=sweep"]
    slurm = ["hydra/launcher=slurm", "hydra.launcher.partition=nix"]
    mail = "hydra.launcher.additional_parameters={mail-user: me@example.org, mail-type: FAIL}"
    done = process(*sweep, *slurm, mail, cwd=tmp_path, PATH=f"{path}:/usr/bin:/bin")
    assert done.returncode == 2
    assert done.stderr == (
        "rebuttal: hydra.launcher.partition=nix: sbatch: invalid partition specified: nix; Batch job submission "
        "failed: Invalid partition; allowed: one that `sinfo` lists\n"
    )
    (script,) = (tmp_path / "sweep/.submitit").glob(".submission_file_*")
    sent = script.read_text().splitlines()
    assert {"#SBATCH --mail-user=me@example.org", "#SBATCH --mail-type=FAIL", "#SBATCH --partition=nix"} <= set(sent)


def test_the_form_that_the_config_file_shows_is_the_one_tested():
    text = (ROOT / "conf/hydra/launcher/slurm.yaml").read_text()
    assert "{mail-user: me@example.org, mail-type: FAIL}" in text
