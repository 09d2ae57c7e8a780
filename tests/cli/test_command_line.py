"""What a command line means, and what is said of one that means nothing; tests/test_main.py runs it as a process."""

import os

import pytest

from latentjax.cli import main
from latentjax.config import files
from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import directory, records


@pytest.mark.parametrize("flag", ["--workdir=", "--config=", "--images="])
def test_an_empty_value_is_not_taken_for_none(flag):
  with pytest.raises(UsageError, match="is empty"):
    main.parse(["main.py", flag])


@pytest.mark.parametrize(
  ("words", "said"),
  [
    (["--images=x"], "--images belongs to --mode=encode"),
    (["--mode=compare", "--workdirs=a", "--images=x"], "--images belongs to --mode=encode"),
    (["--mode=encode", "--images=x"], "--mode=encode needs the --workdir of a run"),
  ],
)
def test_images_to_encode_need_a_model(capsys, words, said):
  assert main.main(["main.py", *words]) == 2
  out, err = capsys.readouterr()
  assert out == ""
  assert err.startswith(f"error: {said}")
  assert len(err.splitlines()) == 1


def test_a_url_or_a_file_is_no_workdir(tmp_path):
  (tmp_path / "file").touch()
  for workdir in ("gs://bucket/run", tmp_path / "file"):
    with pytest.raises(UsageError, match="is no directory"):
      directory.parse_workdir(str(workdir))
  (tmp_path / "there").mkdir()
  for name in ("there", "new", "漢字"):
    assert directory.parse_workdir(str(tmp_path / name)) == tmp_path / name
  assert directory.parse_workdir(None) is None


@pytest.mark.parametrize("kind", ["file", "link"])
def test_runs_that_is_no_directory_is_one_line(kind, tmp_path, monkeypatch):
  """The loop that looks for a free name once went on for ever here."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "runs").touch() if kind == "file" else (tmp_path / "runs").symlink_to("nowhere")
  with pytest.raises(RunError, match=r"cannot create a directory under .*runs \(File exists\): give a --workdir"):
    directory.create_workdir("vae")


def shown(capsys, *words: str) -> str:
  assert main.main(["main.py", *words]) == 0
  out, err = capsys.readouterr()
  assert err == ""
  return out


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_ends_with_every_key_of_the_chosen_config(capsys, flag):
  out = shown(capsys, flag, "--config=ladder_vae:paper", "--config.train.epochs=7")
  assert out.startswith("Trains, evaluates, compares")
  assert "  bottom_up       The control: a plain hierarchical VAE" in out
  keys = out[out.index("Keys of configs/ladder_vae.py:paper") :]
  meaning = "a whole number from 1 to 1000000; passes over the training images"
  assert f"  {'train.epochs=7':<36}  {meaning}\n" in keys
  assert "  model.name=ladder_vae                 draw | ladder_vae | vae" in keys
  assert "  model.inference=ladder                ladder | bottom_up" in keys
  assert "attention" not in keys


@pytest.fixture
def partial_epoch(tmp_path):
  """The workdir of a run of the VAE's demo, so far without an epoch."""
  records.write_config(tmp_path, files.load_config("vae").config, (28, 28, 1), {"dataset_sha256": "0"})
  return tmp_path


def test_show_says_in_what_a_config_differs_from_a_run(capsys, partial_epoch):
  show = ("--mode=show", f"--workdir={partial_epoch}")
  assert shown(capsys, *show) == shown(capsys, "--mode=show", "--config=vae")
  assert shown(capsys, *show, "--config=vae") == f"no difference from {partial_epoch}\n"
  out = shown(capsys, *show, "--config.seed=3", "--config.train.epochs=9")
  assert out.splitlines() == [
    "seed: 0 -> 3  (a different experiment: it needs another --workdir)",
    "train.epochs: 100 -> 9",
  ]


def test_a_workdirs_own_model_decides_which_keys_there_are(capsys, partial_epoch):
  out = shown(capsys, "--mode=show", f"--workdir={partial_epoch}", "--config.model.hidden_dims=(8,)")
  assert out.startswith("model.hidden_dims: (512, 256) -> (8,)")


def test_a_config_that_lacks_a_key_is_named(capsys, tmp_path):
  for lost in ("train.beta", "model.name", "data.name"):
    section, key = lost.split(".")
    path = tmp_path / "own.py"
    path.write_text(
      f"from configs import vae\ndef get_config():\n  c = vae.demo()\n  del c.{section}.{key}\n  return c\n"
    )
    assert main.main(["main.py", "--mode=show", f"--config={path}"]) == 2
    assert capsys.readouterr() == ("", f"error: --config={path}: it has no {lost}\n")


@pytest.mark.parametrize(("key", "value"), [("train.epochs", "'many'"), ("model.latent_dim", None)])
def test_a_value_of_another_type_is_named(capsys, tmp_path, key, value):
  path = tmp_path / "own.py"
  path.write_text(
    f"from configs import vae\ndef get_config():\n  c = vae.demo()\n  del c.{key}\n  c.{key} = {value}\n  return c\n"
  )
  assert main.main(["main.py", "--mode=show", f"--config={path}"]) == 2
  assert capsys.readouterr().err.startswith(f"error: {key} must be ")


def test_the_variables_of_jax_that_nothing_can_run_under(monkeypatch, capsys):
  config = files.load_config("vae").config
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "unchanged")
  monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
  for value in ("0", "", "False"):
    monkeypatch.setenv("JAX_DISABLE_JIT", value)
    monkeypatch.setenv("JAX_ENABLE_X64", value)
    main.start_jax(config)
  assert capsys.readouterr() == ("", "")
  monkeypatch.setenv("JAX_ENABLE_X64", "1")
  main.start_jax(config)
  assert os.environ["JAX_ENABLE_X64"] == "0"
  assert capsys.readouterr() == ("", "JAX_ENABLE_X64 is passed over: latentjax computes in float32\n")
  monkeypatch.setenv("JAX_DISABLE_JIT", "1")
  with pytest.raises(UsageError, match="JAX_DISABLE_JIT is set"):
    main.start_jax(config)


@pytest.mark.parametrize(
  ("error", "said"),
  [
    (AssertionError(), "JAX_PLATFORMS=cuda: there is no such device here. JAX_PLATFORMS=cpu always works"),
    (
      RuntimeError("Unable to initialize backend 'cuda': none (set JAX_PLATFORMS='' to choose)"),
      "JAX_PLATFORMS=cuda: Unable to initialize backend 'cuda': none. JAX_PLATFORMS=cpu always works",
    ),
  ],
)
def test_a_platform_that_is_not_there_is_one_line(monkeypatch, error, said):
  """As JAX says it: the first where its plugin finds no device, the second where it knows none of that name."""

  def devices():
    raise error

  monkeypatch.setenv("JAX_PLATFORMS", "cuda")
  monkeypatch.setattr("jax.devices", devices)
  with pytest.raises(UsageError) as raised:
    main.check_devices()
  assert str(raised.value).startswith(said)
