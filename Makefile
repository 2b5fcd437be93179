# Nightmail's one Makefile. `make help` lists what it does.
#
# Variants build side by side under build/: SAN=address (ASan+UBSan), SAN=thread (TSan), SAN=fuzzer (libFuzzer, by clang), SAN=coverage,
# SAN=lines (fuzzers that count lines), TASKS=threads (one thread per task), CC=clang, ARCH=arm64 (cross build). V=1 shows each command whole.

PREFIX  ?= /usr/local
DESTDIR ?=
VERSION := 0.1.0

# Debian's, which has Debian's pytest, whatever else is in the path.
PYTHON ?= /usr/bin/python3

SAN   ?=
TASKS ?=
ARCH  ?=
CC    := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
ifeq ($(ARCH),arm64)
# Debian's arm64 -dev packages stand beside ours; with its C library there too, qemu finds everything where it is on arm64.
CC         := aarch64-linux-gnu-gcc
AR         := aarch64-linux-gnu-ar
PKG_CONFIG := PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig:/usr/share/pkgconfig pkg-config
RUNNER     ?= qemu-aarch64
else
PKG_CONFIG ?= pkg-config
RUNNER     ?=
endif
ifneq ($(filter fuzzer lines,$(SAN)),)
CC := clang
endif

empty :=
space := $(empty) $(empty)
variant := $(subst $(space),-,$(strip $(or $(ARCH),native) $(if $(filter gcc aarch64-linux-gnu-gcc,$(CC)),,$(notdir $(CC))) \
                                      $(SAN) $(if $(TASKS),tasks-$(TASKS)) $(if $(DEBUG),debug)))
ifneq ($(filter fuzzer lines,$(SAN)),)
variant := fuzz$(SAN:fuzzer=)
endif
BUILD   ?= build
B       := $(BUILD)/$(variant)

PACKAGES := openssl libunbound libconfuse libidn2 libpsl jansson sqlite3 libcurl libseccomp

# The set-up: one stamp, made again when the list of packages changes; nothing is asked of apt when all is there.
SETUP := $(BUILD)/setup.stamp

CSTD     := -std=gnu17
# What clang does not say of itself in the debugging data unless it is asked.
RECORD   := $(if $(findstring clang,$(CC)),-grecord-command-line)
WARN     := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings \
            -Wvla -Wundef -Wno-missing-field-initializers
OPT      := -O2 -g $(RECORD) -fno-omit-frame-pointer -fno-plt
# What an intruder meets. Branches are protected, but no shadow stack is: tasks switch stacks. tests/hardening reads it all in the binary.
BRANCHES := $(if $(findstring aarch64,$(shell $(CC) -dumpmachine)),-mbranch-protection=standard,-fcf-protection=branch)
HARDEN   := -fstack-protector-strong -fstack-clash-protection -ftrivial-auto-var-init=$(if $(findstring clang,$(CC)),pattern,zero) \
            $(BRANCHES) -fPIE -U_FORTIFY_SOURCE
LINKHARD := -pie -Wl,-z,relro,-z,now,-z,noexecstack

ifeq ($(SAN),address)
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -DSAN_ADDRESS=1
else ifeq ($(SAN),fuzzer)
SANFLAGS := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -DSAN_ADDRESS=1
else ifeq ($(SAN),thread)
SANFLAGS := -fsanitize=thread -DSAN_THREAD=1
else ifeq ($(SAN),lines)
SANFLAGS := -fsanitize=fuzzer-no-link -fprofile-instr-generate -fcoverage-mapping
else ifeq ($(SAN),coverage)
SANFLAGS := --coverage -fprofile-update=atomic -DSAN_COVERAGE=1
OPT      := -O0 -g -Wno-format-truncation
else
SANFLAGS :=
HARDEN   += -D_FORTIFY_SOURCE=3
endif
ifeq ($(TASKS),threads)
TASKFLAGS := -DTASKS_THREADS=1
endif
# With `nightmail debug`, which no release has.
DEBUGFLAGS := $(if $(DEBUG),-DDEBUG_BUILD=1)

# Only libpq's headers stand in a folder of their own; for some others pkg-config wants what they are built on, which nobody installs.
PKG_CFLAGS  = $(shell pkg-config --cflags libpq 2>/dev/null)
PKG_LIBS    = $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null) $(if $(ARCH),-l:libpq.so.5,$(shell pkg-config --libs libpq 2>/dev/null))
CPPFLAGS   += -D_GNU_SOURCE -DNIGHTMAIL_VERSION='"$(VERSION)"' -Isrc
ALL_CFLAGS  = $(CSTD) $(WARN) $(OPT) $(HARDEN) $(SANFLAGS) $(TASKFLAGS) $(DEBUGFLAGS) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS)
ALL_LIBS    = $(LINKHARD) $(SANFLAGS) $(LDFLAGS) $(PKG_LIBS) -lunistring -lcrypt -lpthread

SOURCES   := $(sort $(shell find src -name '*.c' ! -name '*_test.c' ! -name main.c $(if $(DEBUG),,! -name cmd_debug.c)))
UNIT      := $(sort $(shell find src -name '*_test.c'))
# Programs under tests/ that are C: tests/<folder>/<name>.c, linked with everything but main.c.
TESTPROGS := $(sort $(wildcard tests/sim/*.c tests/model/*.c tests/crash/*.c tests/bench/*.c tests/dns/*.c tests/net/*.c tests/fuzz/make_*.c))

# Fuzzers: tests/fuzz/fuzz_<name>.c has LLVMFuzzerTestOneInput; its corpus is tests/fuzz/corpus/<name>/.
FUZZERS   := $(sort $(wildcard tests/fuzz/fuzz_*.c))

OBJECTS   := $(SOURCES:%.c=$B/%.o)
ARCHIVE   := $B/libnightmail.a
UNITBINS  := $(UNIT:src/%.c=$B/unit/%)
TESTBINS  := $(TESTPROGS:%.c=$B/%)
FUZZBINS  := $(FUZZERS:%.c=$B/%)

.DEFAULT_GOAL := all
.PHONY: all help clean
all: $B/nightmail

help:
	@sed -n 's/^## //p' Makefile

## make                 build build/native/nightmail
$B/nightmail: $B/src/main.o $(ARCHIVE)
	@mkdir -p $(@D)
	$(call show,LD)$(CC) -o $@ $^ $(ALL_LIBS)

$(ARCHIVE): $(OBJECTS)
	@rm -f $@
	@$(AR) rcs $@ $(OBJECTS)

V ?=
show = $(if $(V),,@printf '%-4s %s\n' $(1) $@ && )

# Other flags make other objects.
COMPILED_BY = $(CC) $(CSTD) $(WARN) $(OPT) $(HARDEN) $(SANFLAGS) $(TASKFLAGS) $(DEBUGFLAGS) $(CFLAGS)
.PHONY: always
$B/flags: always
	@mkdir -p $(@D)
	@echo '$(COMPILED_BY)' | cmp -s - $@ || echo '$(COMPILED_BY)' >$@

$B/%.o: %.c $B/flags | $(SETUP)
	@mkdir -p $(@D)
	$(call show,CC)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# The table is part of the program.
$B/src/outbound/refusal_table.o: share/refusals

$B/unit/%: $B/src/%.o $(ARCHIVE)
	@mkdir -p $(@D)
	@$(CC) -o $@ $^ $(ALL_LIBS) -lcmocka

$B/tests/%: $B/tests/%.o $(ARCHIVE)
	@mkdir -p $(@D)
	@$(CC) -o $@ $^ $(ALL_LIBS) -lm

$B/tests/fuzz/%: $B/tests/fuzz/%.o $(ARCHIVE)
	@$(CC) -o $@ $^ $(subst fuzzer-no-link,fuzzer,$(ALL_LIBS))

-include $(OBJECTS:.o=.d) $(UNIT:%.c=$B/%.d) $(TESTPROGS:%.c=$B/%.d) $(FUZZERS:%.c=$B/%.d) $B/src/main.d

$(SETUP): tools/setup
	@mkdir -p $(@D)
	@tools/setup build
	@touch $@

## make unit            build and run the unit tests that stand beside the code
.PHONY: unit
unit: $(UNITBINS)
	@tests/run-unit "$(RUNNER)" $(UNITBINS)

## make testprogs       build the test programs under tests/
.PHONY: testprogs
testprogs: $(TESTBINS)

## make fuzz            run each fuzzer for FUZZ_SECONDS (60); what it finds is in build/fuzz/found/; FUZZ="<name> ..." picks some
## make fuzz-quick      run each fuzzer over its corpus and then for 5 s
FUZZ_SECONDS ?= 60
.PHONY: fuzz fuzz-quick fuzz-programs
fuzz-programs: $(if $(filter fuzzer lines,$(SAN)),$(FUZZBINS))
fuzz fuzz-quick:
	@tools/setup fuzz
	@$(MAKE) --no-print-directory SAN=fuzzer ARCH= TASKS= fuzz-programs
	@tests/fuzz/run $(if $(filter fuzz-quick,$@),5,$(FUZZ_SECONDS)) $(BUILD)/fuzz $(or $(FUZZ),$(FUZZERS:tests/fuzz/fuzz_%.c=%))

## make fuzz-long       run the fuzzers of FUZZ_LONG for FUZZ_MINUTES (30) of CPU each, and print the table of docs/fuzzing.md
FUZZ_MINUTES ?= 30
FUZZ_LONG    ?= session client dsn journal conf proxy control filter wire
.PHONY: fuzz-long
fuzz-long:
	@tools/setup fuzz
	@$(MAKE) --no-print-directory SAN=fuzzer ARCH= TASKS= fuzz-programs FUZZERS="$(FUZZ_LONG:%=tests/fuzz/fuzz_%.c)"
	@$(MAKE) --no-print-directory SAN=lines ARCH= TASKS= fuzz-programs FUZZERS="$(FUZZ_LONG:%=tests/fuzz/fuzz_%.c)"
	@tests/fuzz/long $(FUZZ_MINUTES) $(BUILD)/fuzz $(BUILD)/fuzzlines $(FUZZ_LONG)

## make arm64           cross-build for arm64 into build/arm64/
## make arm64-test      and run the unit tests there under qemu-user; ARM64_UNIT="run/task base/str ..." picks some
.PHONY: arm64 arm64-test
arm64:
	@tools/setup arm64
	@$(MAKE) --no-print-directory ARCH=arm64 SAN= all
arm64-test: arm64
	@$(MAKE) --no-print-directory ARCH=arm64 SAN= $(if $(ARM64_UNIT),UNIT="$(ARM64_UNIT:%=src/%_test.c)") unit

## make peers           mail to and from other people's programs: Postfix, Exim, Dovecot, curl, nodemailer; PEERS="-k swaks" picks some
# In a network namespace with nothing but loopback; its PID namespace ends whatever a test left.
.PHONY: peers
peers: $B/nightmail $B/tests/dns/dns_query
	@tools/setup test
	@tools/setup peers
	@unshare --net --mount --pid --fork --kill-child --mount-proc sh -c 'ip link set lo up && exec "$$@"' peers \
	    env NIGHTMAIL=$B/nightmail timeout 900 $(PYTHON) -B -m pytest -q -p no:cacheprovider tests/peers $(PEERS)

## make bench           the machine's ceilings, then side by side with Postfix, OpenSMTPD and Exim on the same disk; BENCH=--quick for a look
.PHONY: bench
bench: $B/nightmail $B/slow_sync.so $B/tests/bench/journal $B/tests/bench/responder $B/tests/net/delay $B/tests/bench/tls_bare $B/tests/bench/tls_load
	@tools/setup bench
	@$(PYTHON) -B tests/bench/run.py --nightmail $B/nightmail --journal $B/tests/bench/journal --delay $B/tests/net/delay --slow-sync $B/slow_sync.so \
		--json $(BUILD)/bench/result.json $(BENCH)

## make bench-attack    a normal client while others attack, and Postfix's under the same; ATTACK=--quick for what holds on any machine
.PHONY: bench-attack
bench-attack: $B/nightmail $B/tests/bench/attack
	@$(if $(findstring --quick,$(ATTACK)),,tools/setup bench)
	@$(PYTHON) -B tests/bench/attack.py --nightmail $B/nightmail --attack $B/tests/bench/attack --json $(BUILD)/bench/attack.json $(ATTACK)

$B/slow_sync.so: tests/bench/preload/slow_sync.c
	@mkdir -p $(@D)
	$(CC) $(CSTD) $(WARN) -O2 -D_GNU_SOURCE -fPIC -shared -o $@ $< -ldl

## make scale           a queue of SCALE_MESSAGES (1,000,000) on this disk: start, memory, next due message, acceptance, filters
SCALE_MESSAGES ?= 1000000
.PHONY: scale
scale: $B/nightmail $B/tests/bench/start $B/tests/bench/scale
	@tests/bench/scale-disk $B $(SCALE_MESSAGES)

## make soak            SOAK_MESSAGES (2,000,000) through a file system of 100 MiB: segments are used again, memory and latency stay flat
SOAK_MESSAGES ?= 2000000
.PHONY: soak
soak: $B/tests/bench/soak
	@tests/bench/soak-disk $B/tests/bench/soak $(SOAK_MESSAGES) 100

## make hardening       show in the program that it is hardened as it should be
.PHONY: hardening
hardening: $B/nightmail
	@tests/hardening $B

## make layers          check the arrows between the folders
.PHONY: layers
layers: $(ARCHIVE)
	@tests/layers $B

clean:
	rm -rf $(BUILD)

.SECONDARY:

## make demo            build, and watch a message travel through two servers
.PHONY: demo
demo: $B/nightmail
	@tools/demo $B/nightmail

## make install         into $(DESTDIR)$(PREFIX)
.PHONY: install
install: $B/nightmail
	install -D -m 755 $B/nightmail $(DESTDIR)$(PREFIX)/bin/nightmail
	install -d $(DESTDIR)$(PREFIX)/sbin
	ln -sf ../bin/nightmail $(DESTDIR)$(PREFIX)/sbin/sendmail
	ln -sf nightmail $(DESTDIR)$(PREFIX)/bin/mailq
	install -m 755 tools/backup $(DESTDIR)$(PREFIX)/sbin/nightmail-backup
	install -D -m 644 docs/nightmail.1 $(DESTDIR)$(PREFIX)/share/man/man1/nightmail.1
	install -D -m 644 docs/nightmail.conf.5 $(DESTDIR)$(PREFIX)/share/man/man5/nightmail.conf.5
	install -D -m 644 share/refusals $(DESTDIR)$(PREFIX)/share/nightmail/refusals
	install -D -m 644 docs/example.conf $(DESTDIR)$(PREFIX)/share/doc/nightmail/example.conf
	install -m 644 docs/journal.md $(DESTDIR)$(PREFIX)/share/doc/nightmail/journal.md
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|/usr/bin/nightmail|$(PREFIX)/bin/nightmail|' share/nightmail.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/nightmail.service
	install -D -m 644 share/system-users/nightmail.service.d/system-users.conf \
	    $(DESTDIR)$(PREFIX)/share/doc/nightmail/system-users.conf

## make test            set everything up and run every test
.PHONY: test
test:
	@tools/setup test
	@tests/suites test

## make crash           kill -9 under load, a thousand times
.PHONY: crash
crash: $B/nightmail
	tests/crash/crash.py $B/nightmail --rounds 500 --mode local
	tests/crash/crash.py $B/nightmail --rounds 500 --mode relay
	tests/crash/transfer.py $B/nightmail --kills 500

# Loaded into the server, also into one with a sanitizer: plain, and with nothing of ours.
$B/faults.so: tests/faults/preload.c
	@mkdir -p $(@D)
	$(call show,CC)$(CC) $(CSTD) $(WARN) -O2 -g -fno-omit-frame-pointer -D_GNU_SOURCE -fPIC -shared -o $@ $< -ldl

## make faults          each allocation and each system call of a transaction fails once; FAULTS=--tls: of one under TLS, in and out
.PHONY: faults
faults: $B/nightmail $B/faults.so
	@tests/faults/faults.py $B/nightmail $B/faults.so $(FAULTS)

# Loaded into the server like faults.so.
$B/exhaustion.so: tests/exhaustion/preload.c
	@mkdir -p $(@D)
	$(call show,CC)$(CC) $(CSTD) $(WARN) -O2 -D_GNU_SOURCE -fPIC -shared -o $@ $< -ldl

## make exhaustion      no room, no descriptors, no DNS, the wrong date: and all goes on when that has passed
.PHONY: exhaustion
exhaustion: $B/nightmail $B/exhaustion.so
	@tests/exhaustion/run $B/nightmail $B/exhaustion.so $(EXHAUSTION)

## make sim             cut the journal at SIM_POINTS (10,000,000) points of the simulated disk, a seed on each core; CI does 100,000
SIM_POINTS ?= 10000000
.PHONY: sim
sim: $B/tests/sim/journal_crash
	@BUILD=$B tests/sim/run-points $(SIM_POINTS)

## make sim-hostile     SIM_DAYS (1000) simulated days among hostile clients, next hops and DNS; CI does 60
SIM_DAYS ?= 1000
.PHONY: sim-hostile
sim-hostile: $B/tests/sim/hostile
	@$B/tests/sim/hostile --days $(SIM_DAYS)

## make coverage        the share of lines that the tests run through, for each folder, with its floor; some minutes. COVERAGE=-v: which not
.PHONY: coverage coverage-programs
coverage-programs: all testprogs $(UNITBINS)
coverage:
	@$(MAKE) --no-print-directory SAN=coverage ARCH= TASKS= CC=gcc coverage-programs
	@tests/coverage $(BUILD)/native-coverage --run $(COVERAGE)

## make mutants         plant each fault of tests/mutants/list, one at a time; its test must find it. MUTANTS="name ..." picks some
.PHONY: mutants
mutants: $(SETUP)
	@$(PYTHON) -B tests/mutants/mutants.py --build $(abspath $(BUILD))/mutants $(MUTANTS)

## make format          is every file as .clang-format wants it?
.PHONY: format
format:
	@tests/format
