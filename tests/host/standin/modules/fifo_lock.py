import collections
import threading


class FIFOLock:
    """First come, first served."""

    def __init__(self):
        self.condition = threading.Condition()
        self.line = collections.deque()

    def acquire(self, blocking=True):
        ticket = object()
        with self.condition:
            if self.line and not blocking:
                return False
            self.line.append(ticket)
            self.condition.wait_for(lambda: self.line[0] is ticket)
        return True

    def release(self):
        with self.condition:
            self.line.popleft()
            self.condition.notify_all()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *error):
        self.release()
