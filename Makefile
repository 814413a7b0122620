# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
#
# The short names of what one does here every day; Meson does the work. `make help` lists them.

BUILD  ?= build
PREFIX ?= /usr/local
# What `make run` and `make run-kernel` give the guest when it is not the default; ARGS adds options of `hostel run`, as in `make run ARGS='--name web'`.
CPUS   ?=
MEMORY ?=
ARGS   ?=

.DEFAULT_GOAL := build
.PHONY: help build compile run run-kernel test check-fast torture bench lint format asan tsan clang aarch64 fuzz install clean

help:              ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' Makefile | expand -t 22

build: deps-build compile  ## install what is missing and build the programs into build/bin/

.PHONY: deps-build deps-test deps-lint
deps-build deps-test deps-lint:
	@tools/install-deps $(@:deps-%=%)

compile: $(BUILD)/build.ninja
	@ninja -C $(BUILD) programs

# Meson notices build files that change, but not a folder that is new.
$(BUILD)/build.ninja: $(wildcard src/*/meson.build images/*/meson.build tests/*/meson.build)
	@options=-Dprefix=$(PREFIX); [ ! -e $@ ] || options=--reconfigure; \
		said=$$(meson setup $$options $(BUILD) 2>&1) || { echo "$$said"; exit 1; }
	@touch $@

run: build         ## make a Debian guest and run it, or run it again (Ctrl-] opens Hostel's menu)
	@$(BUILD)/bin/hostel run debian $(if $(CPUS),--cpus $(CPUS)) $(if $(MEMORY),--memory $(MEMORY)) $(ARGS)

run-kernel: build  ## boot Debian's riscv64 kernel with busybox's shell, in a second
	@guest=$$(tools/debian-guest fetch) && $(BUILD)/bin/hostel run --isa riscv64 --cpus $(or $(CPUS),2) \
		--memory $(or $(MEMORY),512M) --kernel $$guest/kernel --initrd $$guest/initramfs.gz \
		--append "console=ttyS0 quiet" $(ARGS)

test: deps-test    ## everything: all suites, both compilers, sanitizers, arm64; ends with "N passed, N failed"
	@tools/debian-guest fetch >/dev/null || echo "tests that boot Debian's kernel are going to be skipped"
	@tools/run-tests --build $(BUILD)

check-fast:        ## format, layers, headers alone, style, unit tests: before each commit
	@tools/run-tests --build $(BUILD) static unit

torture: deps-test $(BUILD)/build.ninja  ## disk images: the long runs, hours: power cuts, faults, QEMU, malformed (PARTS=...)
	@tools/torture --build $(BUILD) $(PARTS)

bench: deps-test build  ## measure Hostel beside its peers
	@bench/run --build $(BUILD)

lint: deps-lint    ## clang-tidy and cppcheck
	@tools/lint $(BUILD)-clang

format:            ## give every C file the layout of .clang-format
	@tools/check-format --fix

asan tsan clang aarch64: deps-test  ## one further build with its tests (asan, tsan, clang, aarch64)
	@tools/run-tests --build $(BUILD) $@

fuzz: deps-test    ## run each fuzz target for a few seconds (FUZZ_SECONDS=N)
	@tools/run-fuzz $(BUILD)-fuzz

install:           ## programs, manual pages and completion, below PREFIX (DESTDIR is honoured)
	@[ ! -e $(BUILD)/build.ninja ] || meson configure -Dprefix=$(PREFIX) $(BUILD)
	@$(MAKE) --no-print-directory compile
	@meson install -C $(BUILD) --no-rebuild --quiet

clean:             ## remove every build folder
	@rm -rf $(BUILD) $(addprefix $(BUILD)-,asan tsan clang aarch64 fuzz)
