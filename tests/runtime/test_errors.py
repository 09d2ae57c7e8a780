"""What a person is told of an error that ended the run."""

import pytest

from latentjax.runtime.errors import RunError, user_message


@pytest.mark.parametrize(
  "error",
  [
    MemoryError(),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes"),
    RuntimeError("INTERNAL: during compilation: Out of memory allocating 8 bytes"),
  ],
)
def test_out_of_memory_says_what_to_lower(error):
  told = user_message(error)
  assert isinstance(told, RunError)
  assert "lower train.batch_size" in str(told)


def test_a_mistake_of_this_program_stays_one():
  assert user_message(RuntimeError("INTERNAL: no such kernel")) is None


def test_a_refused_path_is_named_without_a_number():
  assert str(user_message(PermissionError(13, "Permission denied", "runs"))) == "runs: Permission denied"
  assert str(user_message(FileExistsError(17, "File exists", "a", None, "b"))) == "a and b: File exists"
  assert str(user_message(OSError("odd"))) == "odd"
