#!/usr/bin/env python3
"""Tests the tests: plants faults in copies of the tree, one at a time, each of which a named test must find.

    tests/mutants/mutants.py [--build build/mutants] [-j JOBS] [--list FILE] [-v] [--look] [NAME ...]

Each fault stands in tests/mutants/list as

    == salt-is-not-looked-at
    A recycled segment's old records are read as new ones.
    file: src/queue/record.c
    - return codec_crc32c(salt, head + AT_PAYLOAD_CRC,
    + return codec_crc32c(0 * salt, head + AT_PAYLOAD_CRC,
    killed by: unit queue/segment_test test_another_salt

The text after the minus signs must stand exactly once in the file (space counts as space, however much of it); the text after the
plus signs takes its place. A fault may need more than one such change, in one file or several. What may kill it (more than one line:
each of them must):

    unit NAME [CASE]         build/unit/NAME; with CASE, that case must be what failed
    talk NAME                the conversation tests/talk/NAME.talk with a server
    sim NAME ARGS...         build/tests/sim/NAME
    model ARGS...            build/tests/model/model
    crash ARGS...            tests/crash/crash.py
    abuse NAME ARGS...       tests/abuse/NAME

The test must end by itself and say that it failed; "killed by hanging:" is for a fault that shows as a test that does not end. First each
named test must pass with no fault planted. A fault whose text is not found, or that does not compile, is an error of the list: what it
was about has changed, and so must the list; --look looks for that only. Each job works in a copy of the tree under --build, which stays for the next time.
"""
import argparse
import concurrent.futures
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
COPIED = ["Makefile", "share", "src", "tests", "tools"]
# Built fast and plainly; a fault may leave something unused.
VARIABLES = ["OPT=-O1", "WARN=", "HARDEN=-fPIE", "BUILD=build"]
B = "build/native"
TEST_SECONDS = 120
HANG_SECONDS = 30
OUTPUT_LINES = 20


class Wrong(Exception):
    """The list or the tree is not as it should be."""


class Mutant:
    def __init__(self, name, where):
        self.name, self.where = name, where
        self.what, self.changes, self.killers = "", [], []


class Killer:
    def __init__(self, test, hangs):
        self.test, self.hangs = test, hangs


class Change:
    def __init__(self, path):
        self.path, self.old, self.new = path, [], []


# -- the list --------------------------------------------------------------------------------------------------------------------


def read_list(path):
    mutants = []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            read_line(mutants, line.rstrip("\n"), f"{os.path.relpath(path)}:{number}")
    for mutant in mutants:
        if not mutant.killers or not mutant.changes or any(not c.old for c in mutant.changes):
            raise Wrong(f"{mutant.where}: {mutant.name} needs a file, something to change and a test")
    names = [m.name for m in mutants]
    for name in names:
        if names.count(name) > 1:
            raise Wrong(f"{name} stands there twice")
    return mutants


def read_line(mutants, line, where):
    if not line or line.startswith("#"):
        return
    if line.startswith("== "):
        mutants.append(Mutant(line[3:].strip(), where))
        return
    if not mutants:
        raise Wrong(f"{where}: before the first name: {line}")
    mutant = mutants[-1]
    found = re.match(r"killed by( hanging)?: (.*)", line)
    if found:
        mutant.killers.append(Killer(tuple(found.group(2).split()), bool(found.group(1))))
    elif line.startswith("file: "):
        mutant.changes.append(Change(line[6:].strip()))
    elif line.startswith(("- ", "+ ")) or line == "+":
        add_text(mutant, line, where)
    elif mutant.changes:
        raise Wrong(f"{where}: cannot read: {line}")
    else:
        mutant.what = f"{mutant.what} {line.strip()}".strip()


def add_text(mutant, line, where):
    if not mutant.changes:
        raise Wrong(f"{where}: in which file?")
    change = mutant.changes[-1]
    if line[0] == "-":
        if change.new:
            change = Change(change.path)
            mutant.changes.append(change)
        change.old.append(line[2:])
    else:
        change.new.append(line[2:])


# -- copies of the tree ----------------------------------------------------------------------------------------------------------


def files_below(top):
    for entry in COPIED:
        path = os.path.join(top, entry)
        if os.path.isfile(path):
            yield entry
        for folder, folders, files in os.walk(path):
            folders[:] = [f for f in folders if f not in ("__pycache__", "corpus")]
            for name in files:
                yield os.path.relpath(os.path.join(folder, name), top)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def sync_tree(tree):
    """Makes tree like TOP; what has not changed is not touched, so that make has little to do."""
    wanted = set(files_below(TOP))
    for path in set(files_below(tree)) - wanted:
        os.unlink(os.path.join(tree, path))
    for path in wanted:
        source, target = os.path.join(TOP, path), os.path.join(tree, path)
        if not os.path.exists(target) or read(target) != read(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(source, target)
    os.makedirs(os.path.join(tree, "build"), exist_ok=True)
    with open(os.path.join(tree, "build/setup.stamp"), "w", encoding="utf-8"):
        pass                                  # packages were set up for us


def run(command, tree, seconds):
    """(exit code or None if it did not end, output). Nothing of it outlives this."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")}
    with subprocess.Popen(command, cwd=tree, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
            code = process.returncode
        except subprocess.TimeoutExpired:
            code, output = None, b""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return code, output.decode("utf-8", "replace")


def program_of(test):
    kind, name = test[0], test[1] if len(test) > 1 else ""
    programs = {"unit": f"{B}/unit/{name}", "talk": f"{B}/nightmail", "sim": f"{B}/tests/sim/{name}",
                "model": f"{B}/tests/model/model", "crash": f"{B}/nightmail", "abuse": f"{B}/nightmail"}
    if kind not in programs:
        raise Wrong(f"no such kind of test: {' '.join(test)}")
    return programs[kind]


def command_of(test):
    program = program_of(test)
    if test[0] == "unit":
        return [program]
    if test[0] == "talk":
        return ["tests/talk/run", "--binary", program, f"tests/talk/{test[1]}.talk"]
    if test[0] == "abuse":
        return [f"tests/abuse/{test[1]}", *test[2:]]
    if test[0] == "crash":
        return ["tests/crash/crash.py", program, *test[1:]]
    return [program, *test[2 if test[0] == "sim" else 1:]]


def build(tree, programs, jobs=1):
    code, output = run(["make", "-s", f"-j{jobs}", *VARIABLES, *programs], tree, 600)
    if code != 0:
        raise Wrong(f"it does not build:\n{output}")


# -- a mutant --------------------------------------------------------------------------------------------------------------------


def pattern_of(lines):
    return r"\s+".join(re.escape(word) for word in " ".join(lines).split())


def mutate(mutant):
    """The changed files' texts."""
    texts = {}
    for change in mutant.changes:
        try:
            text = texts[change.path] if change.path in texts else read(os.path.join(TOP, change.path)).decode()
        except FileNotFoundError:
            raise Wrong(f"there is no {change.path}") from None
        found = re.findall(pattern_of(change.old), text)
        if len(found) != 1:
            raise Wrong(f"found {len(found)} times in {change.path}: {' '.join(change.old)}")
        texts[change.path] = text.replace(found[0], "\n".join(change.new))
    return texts


def is_case(output, case):
    """Of cmocka: did this case fail, or was it the one under way when the program died?"""
    if f"[  FAILED  ] {case}\n" in output:
        return True
    begun = re.findall(r"\[ RUN      \] (\S+)", output)
    return "tests run" not in output and begun and begun[-1] == case


def check_test(killer, tree):
    """What became of it: "" if it was killed as it should be."""
    test = killer.test
    code, output = run(command_of(test), tree, HANG_SECONDS if killer.hangs else TEST_SECONDS)
    if code is None:
        return "" if killer.hangs else f"SURVIVED {' '.join(test)}, which did not end"
    if code == 0:
        return f"SURVIVED {' '.join(test)}"
    if test[0] == "unit" and len(test) > 2 and not is_case(output, test[2]):
        return f"SURVIVED {' '.join(test)}, where another test failed\n{tail(output)}"
    if OPTIONS.verbose:
        print(output)
    return ""


def plant(mutant, tree):
    texts = mutate(mutant)
    try:
        for path, text in texts.items():
            with open(os.path.join(tree, path), "w", encoding="utf-8") as f:
                f.write(text)
        build(tree, sorted({program_of(k.test) for k in mutant.killers}))
        return "; ".join(filter(None, (check_test(k, tree) for k in mutant.killers)))
    finally:
        for path in texts:
            shutil.copy(os.path.join(TOP, path), os.path.join(tree, path))


def judge(mutant, trees):
    tree = trees.get()
    began = time.monotonic()
    try:
        verdict = plant(mutant, tree)
    except Wrong as error:
        verdict = f"ERROR {error}"
    finally:
        trees.put(tree)
    print(f"{mutant.name}: {verdict or 'killed by ' + ', '.join(' '.join(k.test) for k in mutant.killers)} ({time.monotonic() - began:.1f} s)", flush=True)
    return not verdict


def check_unplanted(test, tree):
    began = time.monotonic()
    code, output = run(command_of(test), tree, TEST_SECONDS)
    if OPTIONS.verbose:
        print(f"{' '.join(test)}: {time.monotonic() - began:.1f} s", flush=True)
    if code == 0 and is_in(test, output):
        return True
    print(f"without any fault planted, {' '.join(test)} {'does not end' if code is None else 'fails or is not there'}:\n{tail(output)}", flush=True)
    return False


def is_in(test, output):
    return test[0] != "unit" or len(test) < 3 or f"[       OK ] {test[2]}\n" in output


def tail(output):
    return "\n".join(output.splitlines()[-OUTPUT_LINES:])


def look(mutants):
    """Whether each can still be planted."""
    wrong = 0
    for mutant in mutants:
        try:
            mutate(mutant)
        except Wrong as error:
            print(f"{mutant.name}: {error}")
            wrong += 1
    print(f"mutants: {len(mutants) - wrong} passed, {wrong} failed")
    return 1 if wrong else 0


def prepare(mutants, jobs):
    """Trees, built; and each test passes in one."""
    trees = [os.path.join(OPTIONS.build, f"tree-{i}") for i in range(jobs)]
    sync_tree(trees[0])
    programs = sorted({program_of(k.test) for m in mutants for k in m.killers})
    build(trees[0], programs, jobs)
    for tree in trees[1:]:
        if not os.path.exists(tree):
            shutil.copytree(trees[0], tree, copy_function=shutil.copy2)
        sync_tree(tree)
        build(tree, programs, jobs)
    return trees


def main():
    global OPTIONS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(TOP, "build/mutants"))
    parser.add_argument("--list", default=os.path.join(HERE, "list"))
    parser.add_argument("-j", type=int, default=os.cpu_count() or 1, dest="jobs")
    parser.add_argument("-v", action="store_true", dest="verbose")
    parser.add_argument("--look", action="store_true")
    parser.add_argument("names", nargs="*")
    OPTIONS = parser.parse_args()
    try:
        mutants = read_list(OPTIONS.list)
        unknown = set(OPTIONS.names) - {m.name for m in mutants}
        if unknown:
            raise Wrong(f"no such mutant: {' '.join(sorted(unknown))}")
        mutants = [m for m in mutants if not OPTIONS.names or m.name in OPTIONS.names]
        if OPTIONS.look:
            return look(mutants)
        trees = prepare(mutants, OPTIONS.jobs)
    except Wrong as error:
        print(f"mutants: {error}")
        return 1
    free = queue.Queue()
    for tree in trees:
        free.put(tree)
    with concurrent.futures.ThreadPoolExecutor(OPTIONS.jobs) as pool:
        tests = list(dict.fromkeys(k.test for m in mutants for k in m.killers))
        good = {t for t, passed in zip(tests, pool.map(lambda t: check_unplanted(t, trees[0]), tests)) if passed}
        killed = sum(pool.map(lambda m: judge(m, free), [m for m in mutants if all(k.test in good for k in m.killers)]))
    print(f"mutants: {killed} passed, {len(mutants) - killed} failed")
    return 0 if killed == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
