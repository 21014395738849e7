# comfyfleet: `make help` lists what there is. Go and a C compiler are all that `demo` and `test` need.
# fdatasync: without it SQLite syncs the times of its files with every commit.
export CGO_CFLAGS := -Wno-deprecated-declarations -DHAVE_FDATASYNC=1
GO      ?= go
BIN     := bin/comfyfleet
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TESTS   ?= ./...
FUZZTIME ?= 10s

.DEFAULT_GOAL := help
.PHONY: help demo run build generate test bench faults soak e2e fuzz lint fmt clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## serve on simulated workers and run the bundled video job, with a progress bar (Ctrl-C ends)
	$(BIN) demo

run: build ## serve with the settings of the environment (see docs/operating.md)
	$(BIN) serve

build: ## build bin/comfyfleet
	$(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN) ./app

generate: ## write the Go files of the templates again
	$(GO) tool templ generate -path views

test: ## run all tests with the race detector
	$(GO) vet $(TESTS)
	$(GO) test -race -timeout 45m $(TESTS)

bench: build ## print the table of figures
	$(GO) run ./app/bench -binary $(BIN)

fuzz: ## fuzz every target of the repository, each for FUZZTIME (10s)
	@set -e; for package in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n 1 dirname | sort -u); do \
		targets=$$($(GO) test -list '^Fuzz' $$package); \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "== $$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

soak: ## kill servers and workers under load, and run 64 workers, at full count: minutes
	SOAK_SCALE=10 $(GO) test -race -count=1 -v -timeout 30m -run 'TestNoKillLosesAJobOrRunsItAgain|TestAFullHouseLeavesNothingBehind' ./app

faults: ## inject every fault into real workers and print what became of job and worker
	@mkdir -p bin
	FAULT_TABLE=$(CURDIR)/bin/faults.txt $(GO) test -race -count=1 -timeout 20m -run TestWhatFollowsFromEachFault ./app
	@cat bin/faults.txt

E2E_SHOTS ?= $(or $(TMPDIR),/tmp)/comfyfleet-e2e
e2e: ## drive the dashboard in headless Chromium; pictures of every page go to E2E_SHOTS
	@mkdir -p $(E2E_SHOTS)
	COMFYFLEET_E2E=1 E2E_SHOTS=$(abspath $(E2E_SHOTS)) $(GO) test -count=1 -timeout 25m -parallel 2 ./app/e2e
	@echo "pictures: $(abspath $(E2E_SHOTS))"

lint: ## vet, formatting, generated files
	$(GO) vet ./...
	@test -z "$$(gofmt -l app gpu models workflows views static)" || (gofmt -l app gpu models workflows views static; exit 1)

fmt: ## format
	gofmt -w app gpu models workflows views static

clean: ## remove what was built (data/ and outputs/ stay)
	rm -rf bin
