# The two commands that matter on a fresh machine: make demo, make test.
# A failure counts in whatever place of a pipe it happens.
SHELL       := bash
.SHELLFLAGS := -o pipefail -c

GO       ?= go
FUZZTIME ?= 30s
VECTORS  := mls/testdata/vectors
VECTORS_REPO   := https://github.com/mlswg/mls-implementations

.PHONY: all build demo test race check fuzz vectors interop e2e bench bench-mls bench-state bench-keyserver apidiff microbench soak soak-model soak-keyserver screenshots govulncheck clean

all: build

build: ## the one binary, bin/cloudmls
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/cloudmls

demo: ## the main job on embedded defaults, on loopback only
	$(GO) run ./cmd/cloudmls demo

test: ## everything that exists; installs what it needs on Debian as root
	./test/run

race: ## the same tests under the race detector (needs gcc)
	$(GO) test -race -shuffle=on ./...

check: ## formatting, vet, import rules
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags crashpoints,weakkdf ./cloudmls/... ./test/model/
	$(GO) test ./internal/archtest/

fuzz: ## every fuzz target for FUZZTIME
	./test/fuzz $(FUZZTIME)

vectors: ## the official RFC 9420 test vectors: found beside the checkout, in MLS_VECTORS, or cloned
	./test/vectors $(VECTORS) $(VECTORS_REPO)
	$(GO) test -count=1 -v -run 'TestVectors' ./mls/

interop: ## random groups of our MLS and a second implementation (ts-mls from npm; Node 20)
	./mls/interop/install
	CLOUDMLS_E2E=require $(GO) test -count=1 -v ./mls/interop/

e2e: ## real Dovecot and Postfix, swaks, curl, mbsync, Thunderbird (Debian, root)
	./test/install
	CLOUDMLS_E2E=require $(GO) test -count=1 -v ./test/...

bench: ## what the gateway costs, one line a figure (Debian, root; some ten minutes); figures that fall short fail nothing
	./test/install
	CLOUDMLS_E2E=require $(GO) test -count=1 -timeout 60m -run '^$$' -bench . -benchtime 1x ./test/bench/ | grep -v '^Benchmark\|^goos\|^goarch\|^pkg'

bench-mls: ## our MLS against the cryptography that it cannot avoid, groups of 2 to 10,000; two minutes
	$(GO) test -count=1 -timeout 30m -run '^$$' -bench BenchmarkMLS -benchtime 1x ./mls/ | grep target=

bench-state: ## what the cloud state costs: octets, round trips, time; some ten minutes
	$(GO) test -count=1 -timeout 60m -run '^$$' -bench . -benchtime 1x ./test/benchstate/ | grep target=

bench-keyserver: ## the key server over HTTP beside its stores, up to a million objects (Debian, root)
	./test/postgres/install
	CLOUDMLS_E2E=require $(GO) test -count=1 -timeout 60m -run '^$$' -bench . -benchtime 1x ./test/benchkeyserver/ | grep target=

apidiff: ## what changed for programs that import us since BASE=REVISION
	@test -n "$(BASE)" || { echo "say make apidiff BASE=REVISION"; exit 2; }
	./test/apidiff $(BASE)

microbench: ## benchmarks of single primitives and of the mail format
	$(GO) test -run '^$$' -bench . -benchtime 1s ./mls/internal/labeled/ ./internal/mailseal/

soak: ## kills and faults for a long time: SOAK=30m
	./test/install
	CLOUDMLS_E2E=require CLOUDMLS_SOAK=$${SOAK:-30m} $(GO) test -count=1 -timeout 24h -v -run Soak ./test/crash/

soak-model: ## random histories of users, devices and faults: RUNS=100000, LIES=10000 with a lying key server, SHARDS=2 processes, SEED= to go on (docs/model.md)
	MODEL_SEED=$${SEED:-random} MODEL_RUNS=$${RUNS:-100000} MODEL_LIES=$${LIES:-10000} MODEL_SHARDS=$${SHARDS:-2} $(GO) test -count=1 -timeout 0 -v -run TestModel ./test/model/

soak-keyserver: ## linearizability under kills for a long time: SOAK=30m
	./test/postgres/install
	CLOUDMLS_E2E=require CLOUDMLS_SOAK=$${SOAK:-30m} $(GO) test -count=1 -timeout 24h -v ./test/keyserver/

screenshots: ## docs/guide/images anew, by a real Thunderbird (Debian, root)
	./test/install
	./test/thunderbird/screenshots

govulncheck: ## known vulnerabilities in what we build on
	$(GO) run golang.org/x/vuln/cmd/govulncheck@latest ./...

clean:
	rm -rf bin dist
