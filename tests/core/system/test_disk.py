"""What a disk refuses is said in words, and what to do about it."""

from __future__ import annotations

import errno

import pytest

from dreambooth_ext.core.system import disk


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk.full"),
        (errno.EFBIG, "disk.file_too_large"),
        (errno.EROFS, "disk.file_read_only"),
        (errno.EACCES, "disk.file_refused"),
        (errno.EIO, "disk.file_broken"),
        (errno.EMFILE, "disk.too_many_files"),
        (errno.ENXIO, "disk.file_gone"),
    ],
)
def test_each_has_words_and_a_remedy(number, code):
    problem = disk.problem_of(OSError(number, "as the system says it", "a file"))
    assert problem.code == code and problem.remedy.endswith((", then try again.", ", then resume this one."))


def test_the_file_is_named_where_it_is_known():
    error = OSError(errno.EACCES, "x", "a file")
    assert disk.problem_of(error).message == "access to a file is denied."
    assert disk.problem_of(OSError(errno.EACCES, "x")).message == "access to a file or folder is denied."


def test_windows_own_number_for_a_file_that_is_too_large():
    error = OSError(errno.EINVAL, "x")
    error.winerror = disk.FILE_TOO_LARGE
    assert disk.problem_of(error).code == "disk.too_large"


def test_what_is_no_matter_of_the_disk_is_left_to_others():
    assert disk.problem_of(ConnectionResetError(errno.ECONNRESET, "x")) is None
    assert disk.problem_of(OSError("a text alone")) is None
