"""Says what computes here; the first measurement's process.

python -m benchmarks.accelerator.machine --json=FILE
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess

from benchmarks.arguments import new_file

PACKAGES = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu", "flax", "optax", "torch")
VARIABLES = ("XLA_FLAGS", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")  # that change speed or precision
QUERY = "name,driver_version,memory.total,clocks.max.sm,clocks.sm,power.limit,temperature.gpu"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--json", type=new_file, required=True, help="where the result is written")
  options = parser.parse_args()
  import jax

  devices = jax.devices()
  result = {
    "device": devices[0].device_kind,
    "platform": devices[0].platform,
    "devices": len(devices),
    "runtime": ", ".join(devices[0].client.platform_version.split("\n")),
    "nvidia_smi": nvidia_smi(),
    "processor": processor(),
    "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    "python": platform.python_version(),
    "packages": {name: version(name) for name in PACKAGES if version(name)},
    "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
  }
  options.json.write_text(json.dumps(result) + "\n")


def nvidia_smi() -> dict[str, str] | None:
  """Driver, memory and clocks of the first NVIDIA GPU."""
  command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
  try:
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
  except (OSError, subprocess.SubprocessError):
    return None
  return dict(zip(QUERY.split(","), (value.strip() for value in said.splitlines()[0].split(",")), strict=False))


def processor() -> str:
  """The name of the CPU."""
  try:
    with open("/proc/cpuinfo") as file:
      return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
  except (OSError, StopIteration):
    return platform.processor() or platform.machine()


def version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


if __name__ == "__main__":
  main()
