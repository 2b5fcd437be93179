"""
Parked tasks in gdb, of a live process and of a core file; x86-64 and arm64.

    (gdb) source tools/gdb/nightmail_gdb.py
    (gdb) nightmail tasks               one line each: address, loop, state, name, where it waits
    (gdb) nightmail bt all              a backtrace of each parked task
    (gdb) nightmail bt NAME|ADDRESS     of those with that name, or of that one

A parked task's registers lie on its stack, where context_swap (src/run/context.c) pushed them. No register is written, so this
works in a core too: for the time of one backtrace an unwinder says of the selected thread's innermost frame that its
caller is the parked task. The core must be the kernel's (kill -ABRT): gdb's own gcore leaves out mappings with guard pages,
which is where the stacks are. A server's tasks are in its worker: attach to that, or `set follow-fork-mode child`.
With TASKS=threads tasks are threads: `thread apply all bt` shows them; the list works all the same.
"""
import gdb
from gdb.unwinder import Unwinder, register_unwinder

# Where context_swap leaves each register, in bytes above the saved stack pointer, and how much it pushed in all.
LAYOUTS = {
    "x86-64": {
        "saved": {"r15": 8, "r14": 16, "r13": 24, "r12": 32, "rbx": 40, "rbp": 48, "rip": 56},
        "size": 64, "sp": "rsp", "pc": "rip",
    },
    "aarch64": {
        "saved": {**{"x%d" % n: 8 * (n - 19) for n in range(19, 31)}, "pc": 88},
        "size": 176, "sp": "sp", "pc": "pc",
    },
}

# Frames at the two ends of every task, of no interest in the short list.
MACHINERY = {"context_begin", "context_main", "task_main", "context_swap", "context_switch", "task_switch_out", "task_park"}


def layout(architecture):
    return LAYOUTS["aarch64" if architecture.name().startswith("aarch64") else "x86-64"]


def word(address):
    return int(gdb.Value(address).cast(gdb.lookup_type("unsigned long").pointer()).dereference())


class ParkedTaskUnwinder(Unwinder):
    """Off but while a backtrace is taken: sp is then the saved stack pointer of the task."""

    def __init__(self):
        super().__init__("nightmail-parked-task")
        self.sp = None

    def __call__(self, pending):
        if self.sp is None or pending.level() != 0:
            return None
        where = layout(pending.architecture())
        unsigned_long = gdb.lookup_type("unsigned long")
        frame_id = FrameId(pending.read_register(where["sp"]), pending.read_register(where["pc"]))
        info = pending.create_unwind_info(frame_id)
        for register, offset in where["saved"].items():
            info.add_saved_register(register, gdb.Value(word(self.sp + offset)).cast(unsigned_long))
        info.add_saved_register(where["sp"], gdb.Value(self.sp + where["size"]).cast(unsigned_long))
        return info


class FrameId:
    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


unwinder = ParkedTaskUnwinder()
register_unwinder(None, unwinder, replace=True)


def with_task(task, look):
    """look() while the selected thread seems to have been called by the parked task."""
    unwinder.sp = int(task["context"]["sp"])
    gdb.invalidate_cached_frames()
    try:
        return look()
    finally:
        unwinder.sp = None
        gdb.invalidate_cached_frames()


def tasks():
    loops = gdb.parse_and_eval("'loop.c'::loops")
    for index in range(int(gdb.parse_and_eval("'loop.c'::loops_count"))):
        task = loops[index]["tasks"]
        while int(task) != 0:
            yield index, task.dereference()
            task = task["next"]


def state(task):
    return str(task["state"]).replace("TASK_", "").lower()


def name(task):
    return task["name"].string(errors="replace")


def has_stack_pointer(task):
    return any(field.name == "sp" for field in task["context"].type.fields())


def can_unwind(task):
    return has_stack_pointer(task) and state(task) in ("parked", "ready")


def functions():
    names = []
    frame = gdb.newest_frame().older()
    while frame is not None and len(names) < 6:
        if frame.name() not in MACHINERY:
            names.append(frame.name() or "??")
        frame = frame.older()
    return " < ".join(names)


def backtrace():
    """gdb's own, without the frame that is really the selected thread's."""
    lines = gdb.execute("backtrace", to_string=True).splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("#1 ")), len(lines))
    return "\n".join(lines[first:])


def title(index, task):
    return "%#x  loop %d  %-8s %s" % (int(task.address), index, state(task), name(task))


class Nightmail(gdb.Command):
    """Commands to look at nightmail's tasks: nightmail tasks, nightmail bt NAME|ADDRESS|all."""

    def __init__(self):
        super().__init__("nightmail", gdb.COMMAND_STACK, prefix=True)


class NightmailTasks(gdb.Command):
    """List all tasks: address, loop, state, name and the functions in which they wait, innermost first."""

    def __init__(self):
        super().__init__("nightmail tasks", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        count = 0
        for index, task in tasks():
            where = with_task(task, functions) if can_unwind(task) else ""
            print("%-48s %s" % (title(index, task), where))
            count += 1
        print("%d tasks" % count)


class NightmailBacktrace(gdb.Command):
    """Show where parked tasks wait: nightmail bt NAME|ADDRESS|all."""

    def __init__(self):
        super().__init__("nightmail bt", gdb.COMMAND_STACK)

    def invoke(self, argument, from_tty):
        wanted = argument.strip()
        if wanted == "":
            raise gdb.GdbError("nightmail bt NAME|ADDRESS|all")
        found = 0
        for index, task in tasks():
            if wanted not in ("all", name(task), "%#x" % int(task.address)):
                continue
            found += 1
            print(title(index, task))
            if can_unwind(task):
                print(with_task(task, backtrace) + "\n")
            else:
                print("(on a thread: see `thread apply all bt`)\n")
        if found == 0:
            raise gdb.GdbError("no task with that name or address")


Nightmail()
NightmailTasks()
NightmailBacktrace()
