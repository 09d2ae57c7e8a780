"""Flags, `--help`, `--mode=show` and JAX's options; test_main.py runs whole commands."""

import jax
import pytest

from latentjax.cli import main
from latentjax.config import files
from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import directory, records


@pytest.mark.parametrize("flag", ["--workdir=", "--config=", "--images="])
def test_an_empty_value_is_not_taken_for_none(flag):
  with pytest.raises(UsageError, match="is empty"):
    main.parse_flags(["main.py", flag])


@pytest.mark.parametrize(
  ("words", "said"),
  [
    (["--images=x"], "--images is for --mode=encode"),
    (["--mode=compare", "--workdirs=a", "--images=x"], "--images is for --mode=encode"),
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
    with pytest.raises(UsageError, match=r"is a URL|is a file|not a directory"):
      directory.parse_workdir(str(workdir))
  (tmp_path / "there").mkdir()
  for name in ("there", "new", "漢字"):
    assert directory.parse_workdir(str(tmp_path / name)) == tmp_path / name
  assert directory.parse_workdir(None) is None


@pytest.mark.parametrize("kind", ["file", "link"])
def test_runs_that_is_no_directory_is_one_line(kind, tmp_path, monkeypatch):
  """A search for a free name once never ended here."""
  monkeypatch.chdir(tmp_path)
  (tmp_path / "runs").touch() if kind == "file" else (tmp_path / "runs").symlink_to("nowhere")
  with pytest.raises(RunError, match=r"Cannot create a directory under .*runs \(File exists\)\. Give a --workdir"):
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
  assert "  model.name=ladder_vae                 conv_ladder | draw | ladder_vae | vae; " in keys
  assert "  model.inference=ladder                ladder | bottom_up; " in keys
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
    assert capsys.readouterr() == ("", f"error: --config={path}: {lost} is missing.\n")


@pytest.mark.parametrize(("key", "value"), [("train.epochs", "'many'"), ("model.latent_dim", None)])
def test_a_value_of_another_type_is_named(capsys, tmp_path, key, value):
  path = tmp_path / "own.py"
  path.write_text(
    f"from configs import vae\ndef get_config():\n  c = vae.demo()\n  del c.{key}\n  c.{key} = {value}\n  return c\n"
  )
  assert main.main(["main.py", "--mode=show", f"--config={path}"]) == 2
  assert capsys.readouterr().err.startswith(f"error: {key} must be ")


@pytest.fixture
def jax_options():
  """Restores the options that `start_jax` sets."""
  names = (
    "jax_disable_jit",
    "jax_enable_x64",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
  )
  before = {name: getattr(jax.config, name) for name in names}
  yield
  for name, value in before.items():
    jax.config.update(name, value)


def test_jaxs_variables_have_precedence(monkeypatch, tmp_path, jax_options):
  monkeypatch.setenv("LATENTJAX_CACHE_DIR", str(tmp_path))
  jax.config.update("jax_compilation_cache_dir", "own")
  config = files.load_config("vae").config
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "own")
  monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
  main.start_jax(config)
  assert jax.config.jax_compilation_cache_dir == "own"
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
  monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
  config.compilation_cache = False
  main.start_jax(config)
  assert jax.config.jax_compilation_cache_dir == "own"
  monkeypatch.setenv("HOME", str(tmp_path))
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "~/own")
  main.start_jax(config)
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
  config.compilation_cache = True
  main.start_jax(config)
  assert jax.config.jax_compilation_cache_dir == str(tmp_path / "compiled")
  assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.2


def test_options_of_jax_that_latentjax_does_not_support(capsys, jax_options):
  config = files.load_config("vae").config
  jax.config.update("jax_enable_x64", True)
  main.start_jax(config)
  assert not jax.config.jax_enable_x64
  assert capsys.readouterr() == ("", "JAX_ENABLE_X64 is ignored: latentjax always computes in float32\n")
  jax.config.update("jax_disable_jit", True)
  with pytest.raises(UsageError, match="JAX_DISABLE_JIT is set"):
    main.start_jax(config)


@pytest.mark.parametrize(
  ("error", "said"),
  [
    (AssertionError(), "JAX_PLATFORMS=cuda: no such device. JAX_PLATFORMS=cpu always works"),
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
