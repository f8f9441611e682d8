"""What a disk refuses is said in words, and what to do about it."""

from __future__ import annotations

import errno

import pytest

from dreambooth_ext.core.system import disk


@pytest.mark.parametrize(
    ("number", "part"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EFBIG, "larger than this disk, or this user's limit"),
        (errno.EROFS, "can only be read"),
        (errno.EACCES, "may not use"),
        (errno.EIO, "reports an error"),
        (errno.EMFILE, "too many files"),
        (errno.ENXIO, "is gone"),
    ],
)
def test_each_has_words_and_a_remedy(number, part):
    problem = disk.problem_of(OSError(number, "as the system says it", "a file"))
    assert part in problem.message and problem.remedy.endswith((", then try again.", ", then resume this one."))


def test_windows_own_number_for_a_file_that_is_too_large():
    error = OSError(errno.EINVAL, "x")
    error.winerror = disk.FILE_TOO_LARGE
    assert "larger than this disk" in disk.problem_of(error).message


def test_what_is_no_matter_of_the_disk_is_left_to_others():
    assert disk.problem_of(ConnectionResetError(errno.ECONNRESET, "x")) is None
    assert disk.problem_of(OSError("a text alone")) is None
