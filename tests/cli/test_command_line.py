"""Commands, flags, `--help`, `show` and JAX's options; test_main.py runs whole commands."""

import re
import sys

import jax
import pytest
from command import assert_mistake, call, call_ok

import latentjax
from latentjax import models
from latentjax.cli import main
from latentjax.cli.reference import COMMANDS
from latentjax.config import files
from latentjax.runtime.errors import RunError, UsageError
from latentjax.workdir import directory, records


@pytest.mark.parametrize("args", [["--workdir="], ["--config="], ["--images="], ["train", ""], ["encode", "a", ""]])
def test_an_empty_value_is_not_taken_for_none(args):
  with pytest.raises(UsageError, match="is empty"):
    main.parse_flags(["main.py", *args])


def resolved(line: str) -> tuple:
  """Returns the value of every flag, whether it is given, and the overrides."""
  flags, rest = main.parse_flags(["main.py", *line.split()])
  return {name: (flags[name].value, flags[name].present > 0) for name in flags}, rest


@pytest.mark.parametrize(
  ("words", "flags"),
  [
    ("train draw:demo", "--mode=train --config=draw:demo"),
    ("train draw --config.seed=3 --workdir=a", "--mode=train --config=draw --config.seed=3 --workdir=a"),
    ("train --config.seed 3 vae --config.seed 4", "--mode=train --config=vae --config.seed=3 --config.seed=4"),
    (
      "--config.model.init_log_stride -0.7 train draw",
      "--config=draw --mode=train --config.model.init_log_stride=-0.7",
    ),
    ("--noconfig.compilation_cache train draw", "--mode=train --config=draw --noconfig.compilation_cache"),
    (
      "train --dry_run --config.model.skips ladder_vae",
      "--mode=train --dry_run --config=ladder_vae --config.model.skips",
    ),
    ("train RUN --config=vae", "--mode=train --workdir=RUN --config=vae"),
    ("train RUN/config.json", "--mode=train --config=RUN/config.json"),
    ("train --workdir=RUN", "--mode=train --workdir=RUN"),
    ("sweep own.py:small --workdir=a", "--mode=sweep --config=own.py:small --workdir=a"),
    ("sweep RUN", "--mode=sweep --workdir=RUN"),
    ("benchmark draw", "--mode=benchmark --config=draw"),
    ("benchmark RUN", "--mode=benchmark --workdir=RUN"),
    ("show vae:default --workdir=RUN", "--mode=show --config=vae:default --workdir=RUN"),
    ("show RUN", "--mode=show --workdir=RUN"),
    ("evaluate runs/a", "--mode=evaluate --workdir=runs/a"),
    ("sample runs/a --config.seed=1", "--mode=sample --workdir=runs/a --config.seed=1"),
    ("encode runs/a", "--mode=encode --workdir=runs/a"),
    ("encode runs/a images/", "--mode=encode --workdir=runs/a --images=images/"),
    ("encode runs/a --images=images/", "--mode=encode --workdir=runs/a --images=images/"),
    ("explore draw-mnist", "--mode=explore --workdir=draw-mnist"),
    ("--mode=explore runs/a", "--mode=explore --workdir=runs/a"),
    ("compare runs/a runs/b", "--mode=compare --workdirs=runs/a,runs/b"),
    ("compare runs/a runs/b runs/c --workdir=d", "--mode=compare --workdirs=runs/a,runs/b,runs/c --workdir=d"),
    ("compare", "--mode=compare"),
    ("export runs/a", "--mode=export --workdir=runs/a"),
  ],
)
def test_words_stand_for_flags(words, flags, tmp_path):
  (tmp_path / "config.json").touch()
  words, flags = (line.replace("RUN", str(tmp_path)) for line in (words, flags))
  assert resolved(words) == resolved(flags)


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("trian draw", "Unknown command 'trian'. Did you mean train?"),
    ("--workdir=a evalute", "Unknown command 'evalute'. Did you mean evaluate?"),
    ("draw:demo", "Unknown command 'draw:demo'. Choose one of train, sweep, benchmark, evaluate, "),
    ("epochs=3", "flags start with --."),
    ("train --mode=show", "train stands for --mode, which is given as well. Drop one of the two."),
    ("train draw --config=vae", "draw stands for --config, which is given as well."),
    ("explore runs/a --workdir=runs/b", "runs/a stands for --workdir, which is given as well."),
    ("encode runs/a b --images=c", "b stands for --images, which is given as well."),
    ("compare a b --workdirs=c", "a b stands for --workdirs, which is given as well."),
    ("train draw vae", "'vae' is one argument too many. Usage: python main.py train CONFIG; flags start with --."),
    ("train draw epochs=3", "'epochs=3' is one argument too many."),
    ("encode a b c", "'c' is one argument too many. Usage: python main.py encode WORKDIR [IMAGES];"),
    ("--mode=evaluate a b", "'b' is one argument too many."),
    ("train draw --epochs=3", "Unknown flag --epochs. Did you mean --config.train.epochs=3?"),
    ("train draw --lr 3", "Unknown flag --lr. Did you mean --config.train.learning_rate=3?"),
    ("train nothing", "--config=nothing: no such file. Choose one of conv_ladder, draw, ladder_vae, vae, or write"),
    ("explore", "`latentjax explore` needs the --workdir of a run, as in `python main.py explore runs/NAME`."),
    ("compare", "`latentjax compare` needs --workdirs=A,B,C, as in `python main.py compare A B C`."),
    ("compare runs/a --config.seed=1", "`latentjax compare` reads the configs of its runs."),
  ],
)
def test_a_mistaken_word_is_one_line(tmp_path, line, message):
  assert_mistake(call(*line.split(), cwd=tmp_path), message)
  assert list(tmp_path.iterdir()) == []


def write_run(workdir, config: str) -> None:
  """Writes the config.json of a run that has no epoch yet."""
  workdir.mkdir(parents=True, exist_ok=True)
  records.write_config(workdir, files.load_config(config).config, (28, 28, 1), {"dataset_sha256": "0"})


@pytest.fixture
def pretrained(tmp_path, monkeypatch):
  """The folder of a pretrained model named draw-mnist."""
  folder = tmp_path / "package" / "draw-mnist"
  write_run(folder, "draw")
  (folder / "model.safetensors").touch()
  monkeypatch.setattr("latentjax.inference.pretrained.DIRECTORY", folder.parent)
  monkeypatch.chdir(tmp_path)
  return folder


def test_a_pretrained_model_is_copied_to_runs(pretrained, tmp_path):
  content = {path.name: path.read_bytes() for path in pretrained.iterdir()}
  call_ok("explore", "draw-mnist", "--help", cwd=tmp_path)
  assert not (tmp_path / "runs").exists()
  for output in ("The pretrained draw-mnist is copied to runs/draw-mnist, where results go.\n", ""):
    done = call("sample", "draw-mnist", "--config.train.batch_size=7", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, output)
    assert "runs/draw-mnist holds a different experiment (train.batch_size: 64 -> 7)" in done.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "runs" / "draw-mnist").iterdir()} == content
  assert {path.name: path.read_bytes() for path in pretrained.iterdir()} == content


def test_a_run_of_the_name_of_a_pretrained_model_is_kept(pretrained, tmp_path):
  run = tmp_path / "runs" / "draw-mnist"
  write_run(run, "vae")
  done = call("sample", "draw-mnist", cwd=tmp_path)
  assert_mistake(done, "runs/draw-mnist holds another run than the pretrained draw-mnist. Rename it.")
  assert main._workdir_or_pretrained("runs/draw-mnist") == run.relative_to(tmp_path)
  run.rename(tmp_path / "draw-mnist")
  assert str(main._workdir_or_pretrained("draw-mnist")) == "draw-mnist"
  assert_mistake(call("sample", "vae-mnits", cwd=tmp_path), "vae-mnits holds no run: did you mean the pretrained")


@pytest.mark.parametrize(
  ("words", "said"),
  [
    (["--images=x"], "--images is for `latentjax encode`"),
    (["--mode=compare", "--workdirs=a", "--images=x"], "--images is for `latentjax encode`"),
    (["--mode=encode", "--images=x"], "`latentjax encode` needs the --workdir of a run"),
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


def test_version(capsys):
  assert shown(capsys, "--version") == f"latentjax {latentjax.__version__}, jax {jax.__version__}\n"


def in_order(text: str, *parts: str) -> bool:
  return re.search(".*".join(map(re.escape, parts)), text, re.DOTALL) is not None


@pytest.mark.parametrize(
  ("program", "name"),
  [("/venv/bin/latentjax", "latentjax"), ("/a/main.py", "python main.py"), ("/a/__main__.py", "python -m latentjax")],
)
def test_help_begins_with_the_commands(capsys, monkeypatch, program, name):
  monkeypatch.setattr(sys, "argv", [program])
  out = shown(capsys, "--help")
  groups = ("\nTrain:\n  train CONFIG ", "\nLook:\n  evaluate WORKDIR ", "\nShare:\n  export ", "\nShow:\n  show ")
  rest = ("\nFlags:", "\nConfig files", "\nVariants of draw", "\nKeys of draw:demo")
  sections = ("\nGeneral\n  seed=0 ", "\ntrain.*\n  train.batch_size=", "\neval.*\n  eval.batch_size=")
  assert in_order(out, f"Usage: {name} COMMAND ", *groups, *rest, *sections)
  commands = out[: out.index("\nCONFIG is")].splitlines()
  assert [line.split()[0] for line in commands if line.startswith("  ")] == list(COMMANDS)
  assert f"as in `{name} train draw:VARIANT`" in out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_begins_with_its_usage_and_flags(capsys, monkeypatch, command):
  monkeypatch.setattr(sys, "argv", ["latentjax"])
  out = shown(capsys, command, "--help")
  assert out.startswith(f"Usage: latentjax {command} ")
  assert out == shown(capsys, f"--mode={command}", "--help")
  flags = out[out.index("\nFlags:\n") :].partition("\n\n")[0]
  for flag, owner in {"--dry_run": "train", "--images": "encode", "--workdirs": "compare"}.items():
    assert (f"  {flag} " in flags) == (command == owner)
  assert ("Variants of draw" in out) == (COMMANDS[command].words == ("config",))
  assert ("Keys of draw:demo" in out) == ("--config " in flags) == (command != "compare")


@pytest.mark.parametrize("model", models.MODELS)
def test_every_variant_stands_alone(model):
  """A line such as "the same without attention" is of no use where it is read alone."""
  for summary in files.load_config(model).variants.values():
    assert re.fullmatch(r"(Convolutional Ladder VAE|DRAW|Ladder VAE|Three-layer VAE|VAE) [^`]{20,112}\.", summary)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_ends_with_every_key_of_the_chosen_config(capsys, flag):
  out = shown(capsys, flag, "--config=ladder_vae:paper", "--config.train.epochs=7")
  assert out.startswith("Trains, evaluates, compares")
  assert "  bottom_up       Three-layer VAE with bottom-up inference" in out
  keys = out[out.index("Keys of ladder_vae:paper") :]
  meaning = "a whole number from 1 to 1000000; passes over the training images"
  assert f"  {'train.epochs=7':<36}  {meaning}\n" in keys
  assert "  model.name=ladder_vae                 conv_ladder | draw | ladder_vae | vae; " in keys
  assert "  model.inference=ladder                ladder | bottom_up; " in keys
  assert "attention" not in keys


@pytest.fixture
def partial_epoch(tmp_path):
  """The workdir of a run of the VAE's demo, so far without an epoch."""
  write_run(tmp_path, "vae")
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
