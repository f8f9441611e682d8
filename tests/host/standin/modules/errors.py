import sys
import traceback


def report(message, *, exc_info=False):
    for line in str(message).splitlines():
        print("***", line, file=sys.stderr)
    if exc_info:
        traceback.print_exc(file=sys.stderr)


def display(e, task, *, full_traceback=False):
    print(f"{task}: {type(e).__name__}: {e}", file=sys.stderr)
    traceback.print_exception(e)
