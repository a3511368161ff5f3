# The tasks of a developer. `make` alone lists them. .ci/run calls the same
# targets. Tools are built once, in the version that is named here, into .bin/.

GOLANGCI_LINT = v2.15.0
GORELEASER    = v2.15.1
DEADCODE      = v0.52.0
ACTIONLINT    = v1.7.12
GOVULNCHECK   = v1.9.0

BIN := $(CURDIR)/.bin
# What `make test-quick` leaves out: packages that start processes, servers or a disk.
QUICK = . ./shared/... ./handlers/... ./cmd/dsvm/cli
FUZZ_INPUTS ?= 2000x
SIM_STEPS   ?= 1000000
KILLS       ?= 2001
POWER_LOSSES ?= 3000

# What `go test -race` leaves out, and why:
#   cmd/dsvm        end-to-end tests measure times in which processes answer each other; under the
#                   detector the programs take 5 to 10 times as long and miss the deadlines under test
#   cmd/dsvm/deploy starts a program in the place of az some thousand times, which takes a
#                   quarter of an hour under the detector; its steps follow one another
#   local/durable   kills servers that are programs of their own, which the detector does not see
# Shorter under it: the simulation (shared/scheduler/sim_race_test.go), damaged files (local/disk/damage_race_test.go).
NOT_RACE = -e '/cmd/dsvm$$' -e '/cmd/dsvm/deploy$$' -e '/local/durable$$'

.DEFAULT_GOAL := help

##@ Every day

help: ## show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z][a-z-]*:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build the three programs into build/
	go build -o build/ ./cmd/dsvm ./cmd/agent ./cmd/handler

test-quick: ## test the packages that need no process and no server, in two minutes
	go test $(QUICK)

test: ## run all tests (Linux: all; macOS: those that do not need Linux)
	go test $(GOTESTFLAGS) ./...

test-race: ## run the tests with the race detector
	@all=$$(go list ./...) && packages=$$(echo "$$all" | grep -v $(NOT_RACE)) && set -x && go test $(GOTESTFLAGS) -race -timeout 30m $$packages

format: $(BIN)/golangci-lint-$(GOLANGCI_LINT) ## format the code and group its imports
	$< fmt ./...

pages: ## run the commands that the pages for users show
	go build -o build/ ./cmd/dsvm && DSVM_TEST_PAGES=build/dsvm go test . -run TestExamplesOfPages -count 1 -v

pictures: ## record the demo again, for the pages
	go build -o build/ ./cmd/dsvm && go run ./docs/pictures/record -out docs/pictures/demo.svg -- build/dsvm demo

demo: ## run the demo: 21 jobs on a pool of local nodes
	go run ./cmd/dsvm demo

demo-interactive: ## run the demo of two people on a pool: needs root and OpenSSH
	go run ./cmd/dsvm demo interactive

##@ Checks

vet: ## vet for Linux, for macOS, and the command line and the agent for Windows; the modules that judge, too
	go vet ./...
	GOOS=darwin go vet ./...
	GOOS=windows go vet ./cmd/... ./agent/...
	cd local/servicebus/conformance && go vet -mod=readonly ./...
	cd local/tables/conformance && go vet -mod=readonly ./...
	go mod tidy -diff

lint: $(BIN)/golangci-lint-$(GOLANGCI_LINT) ## run the linters of .golangci.yml, for Linux and for macOS
	$< run ./...
	GOOS=darwin $< run ./...

# What only tests or package fmt reach, and stays:
#   Settings.String                 keeps keys out of whatever prints the settings
#   Instance.ScaleOut               end-to-end tests run two handlers, as the cloud does under load
#   NewState                        tests have the rows of a pool as one list; programs read them page by page
#   Deadline, MaxPayload, Pace      tests of the custom-handler protocol make the bounds small
#   Server.SetPrice                 tests change the local price list, as Azure does from day to day
DEADCODE_BUT = Settings.String|Instance.ScaleOut|Server.SetPrice|func: (Deadline|MaxPayload|Pace|NewState)$$

deadcode: $(BIN)/deadcode-$(DEADCODE) ## print the functions that no program reaches; there must be none
	@$< ./cmd/... > .deadcode; code=$$?; grep -vE '$(DEADCODE_BUT)' .deadcode && code=1; rm -f .deadcode; exit $$code

workflows: $(BIN)/actionlint-$(ACTIONLINT) ## check the workflows in .github/
	$< -shellcheck= -pyflakes=

vuln: $(BIN)/govulncheck-$(GOVULNCHECK) ## look for known holes in the dependencies; needs vuln.go.dev
	$< ./...

infra: ## judge the template: compiler, snapshots, types, checkov
	.ci/infra

template: ## compile the template and write its snapshots
	.ci/infra write

ci: ## everything that must hold on a clean checkout
	.ci/run

##@ Longer

# A number of inputs, since a time would end some in the middle of one, and fail.
# Packages above the compute client are left out: building that for fuzzing takes minutes.
fuzz: ## try each fuzz target with FUZZ_INPUTS inputs (2000x)
	@tried=0; \
	for file in $$(grep -rl --include='*_test.go' '^func Fuzz' . | grep -v /conformance/); do \
		package=$$(dirname $$file); \
		deps=$$(go list -deps -test $$package) || exit 1; \
		case "$$deps" in *armcompute*) continue;; esac; \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			go test $$package -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_INPUTS) -fuzzminimizetime 1x || exit 1; \
			tried=$$((tried + 1)); \
		done; \
	done; \
	echo "$$tried fuzz targets"; [ $$tried -gt 0 ]

sim: ## run SIM_STEPS steps (1000000) of the simulation
	go test $(SIM) -list '^TestSimulation$$' | grep -qx TestSimulation # a pattern that finds no test passes
	go test $(SIM) -run 'TestSimulation$$' -count 1 -v -timeout 2h -args -sim.steps $(SIM_STEPS)

kills: ## kill the local servers KILLS times (2001) and look whether anything is lost
	go test ./local/durable -list '^TestKilled$$' | grep -qx TestKilled
	go test ./local/durable -run 'TestKilled$$' -count 1 -v -timeout 2h -args -kills $(KILLS)

power: ## play POWER_LOSSES losses of power (3000) on a store, and look whether anything is lost
	go test ./local/disk -list '^TestPowerLoss$$' | grep -qx TestPowerLoss
	go test ./local/disk -run 'TestPowerLoss$$' -count 1 -v -timeout 2h -args -powerlosses $(POWER_LOSSES)

bench: ## measure an instance: how fast, and how much of it
	go run ./cmd/dsvm bench

long: ## the long forms of the tests: simulation, kills, losses of power, fuzz
	.ci/long

##@ Releases

package: ## lay out and zip the function app into dist/
	go run ./cmd/dsvm package

release-check: $(BIN)/goreleaser-$(GORELEASER) ## check .goreleaser.yaml
	$< check

release-snapshot: $(BIN)/goreleaser-$(GORELEASER) ## build a release into dist/ without publishing it
	$< release --snapshot --clean

release: $(BIN)/goreleaser-$(GORELEASER) ## make the release of the tag that is checked out, as a draft; needs GITHUB_TOKEN
	$< release --clean

##@ Tools

tools: $(BIN)/golangci-lint-$(GOLANGCI_LINT) $(BIN)/goreleaser-$(GORELEASER) $(BIN)/deadcode-$(DEADCODE) ## build the tools into .bin/
tools: $(BIN)/actionlint-$(ACTIONLINT) $(BIN)/govulncheck-$(GOVULNCHECK)

clean: ## remove what was built
	rm -rf build dist .bin

SIM = ./shared/scheduler

define tool
$(BIN)/$(1)-$(3):
	@mkdir -p $(BIN)/$(1).new
	GOBIN=$(BIN)/$(1).new go install $(2)@$(3)
	@mv $(BIN)/$(1).new/$(1) $$@ && rmdir $(BIN)/$(1).new
endef
$(eval $(call tool,golangci-lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint,$(GOLANGCI_LINT)))
$(eval $(call tool,goreleaser,github.com/goreleaser/goreleaser/v2,$(GORELEASER)))
$(eval $(call tool,deadcode,golang.org/x/tools/cmd/deadcode,$(DEADCODE)))
$(eval $(call tool,actionlint,github.com/rhysd/actionlint/cmd/actionlint,$(ACTIONLINT)))
$(eval $(call tool,govulncheck,golang.org/x/vuln/cmd/govulncheck,$(GOVULNCHECK)))

.PHONY: help infra template build test-quick test test-race format demo demo-interactive vet lint deadcode workflows vuln ci fuzz sim kills power bench long package \
	release-check release-snapshot release tools clean
