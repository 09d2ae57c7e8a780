"""Devices that need not be here: what a compiler must know of them, and what their makers say of their speed."""

import dataclasses

GPU = """gpu_device_info {{ threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 memory_bandwidth: {bandwidth}
  l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: {memory} shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 }} registers_per_core_limit: 65536 registers_per_block_limit: 65536 }}
runtime_version {{ major: 12 minor: 8 patch: 0 }} platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 7 }}
device_description_str: "{name}" """
H100 = GPU.format(bandwidth=3352320000000, memory=84929347584, name="NVIDIA H100 80GB HBM3")
H200 = GPU.format(bandwidth=4800000000000, memory=150000000000, name="NVIDIA H200")


@dataclasses.dataclass(frozen=True)
class Target:
  """Devices to compile for.

  Attributes:
    platform: "cuda" or "tpu".
    topology: arguments of `topologies.get_topology_desc`.
    needs: modules that hold its compiler.
    flops: of one device per second, in products at each precision of a config.
    link: bytes per second that a device sends to the others.
    launch_seconds: what a kernel takes at least.
    cores: each of which can run a block of a kernel; 0 where there are no kernels.
  """

  platform: str
  topology: dict[str, str]
  needs: tuple[str, ...]
  flops: dict[str, float]
  link: float
  launch_seconds: float = 0.0
  cores: int = 0


def hopper(description: str, topology: str = "1x1x1") -> Target:
  return Target(
    platform="cuda",
    topology={"target_config": description, "topology": topology},
    needs=("jax_cuda12_plugin", "nvidia"),
    flops={"float32": 67e12, "tensorfloat32": 495e12, "bfloat16": 989e12},  # dense, of the SXM cards' data sheet
    link=450e9,  # NVLink, one way
    launch_seconds=1.3e-6,  # in a CUDA graph, as others have measured it on an H100; not measured here
    cores=132,
  )


def tpu_v5e(topology: str) -> Target:
  bfloat16 = 197e12  # a product in float32 is six of these, one in tensorfloat32 three
  return Target(
    platform="tpu",
    topology={"topology_name": f"v5e:{topology}"},
    needs=("libtpu",),
    flops={"float32": bfloat16 / 6, "tensorfloat32": bfloat16 / 3, "bfloat16": bfloat16},
    link=200e9,
  )


TARGETS = {
  "h100": hopper(H100),
  "h200": hopper(H200),
  "h100x8": hopper(H100, "1x1x8"),
  "tpu-v5e": tpu_v5e("2x2"),
  "tpu-v5e:16x16": tpu_v5e("16x16"),
}
