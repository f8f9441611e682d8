import functools
import html

from modules import errors, fifo_lock, shared

queue_lock = fifo_lock.FIFOLock()


def wrap_queued_call(func):
    def f(*args, **kwargs):
        with queue_lock:
            return func(*args, **kwargs)

    return f


def wrap_gradio_gpu_call(func, extra_outputs=None):
    @functools.wraps(func)
    def f(*args, **kwargs):
        try:
            with queue_lock:
                shared.state.begin(job=str(args[0]))
                try:
                    return func(*args, **kwargs)
                finally:
                    shared.state.end()
        except Exception as error:
            errors.report("Error completing request", exc_info=True)
            return (
                *(extra_outputs or (None, "")),
                f"<div class='error'>{html.escape(f'{type(error).__name__}: {error}')}</div>",
            )

    return f
