# Each target does all its own set-up; nothing but Python 3.11 or newer is needed (docs/running.md).
# All paths are relative: the checkout may lie in a folder with spaces in its name.
SHELL := /bin/sh
PORT ?= 8000
DATA ?= .eventsvc
SAMPLE ?=
PYTEST ?=
BIN := .venv/bin
# Compiled modules are kept, whatever the environment says: the tests start the service a hundred times.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: page browser pictures run test test-containers docs requirements lint check format setup clean chaos chaos-reading attack audit fuzz nightly bench-query bench-query-large bench-index bench-ingest bench-page bench-scale bench-erase simulate failover typed-client

run: setup ## PostgreSQL, Elasticsearch, API and indexer on this machine; SAMPLE=1: with sample events
	@exec $(BIN)/python -m eventsvc dev --port '$(PORT)' --data '$(DATA)' $(if $(SAMPLE),--sample)

test: lint browser ## everything: linters, types, import contracts, spelling, tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST)

lint: setup ## all but the tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell

test-containers: setup ## image and compose file, for real, then the tests of the servers on containers (a Docker engine; minutes)
	TEST_CONTAINERS=1 $(BIN)/python -m pytest tests/containers -p no:randomly --timeout 900 $(PYTEST)

page: ## bundle the page anew, after its sources have changed (Node.js 20 and npm)
	@.ci/node
	cd eventsvc/page && npm run --silent check && npm run --silent build

pictures: setup browser ## the pictures of the page in docs/pictures, anew
	mkdir -p docs/pictures
	PICTURES=docs/pictures $(BIN)/python -m pytest tests/page/test_pictures.py -p no:randomly $(PYTEST)

browser: ## Chromium, for the tests of the page
	@.ci/browser

requirements: setup ## pin anew what the image is built from
	$(BIN)/python -m pip install -q uv
	{ head -1 config/requirements.txt; $(BIN)/uv pip compile setup.cfg --extra server --python-version 3.13 --python-platform linux \
	    --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade -q; } >config/requirements.new
	mv config/requirements.new config/requirements.txt
	{ head -1 config/patroni/requirements.txt; echo 'patroni[etcd3,psycopg3]>=4.1,<5' | $(BIN)/uv pip compile - --python-version 3.13 \
	    --python-platform linux --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade -q; } >config/requirements.new
	mv config/requirements.new config/patroni/requirements.txt

format: setup ## what the linters can repair by themselves
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: setup ## the tables of docs/ that come from the code
	$(BIN)/python tests/docs_tables.py

setup: ## the virtual environment, when it is missing or setup.cfg has changed
	@.ci/venv

chaos: setup ## break things at random, ROUNDS times, and write what was seen into docs/reliability.md
	$(BIN)/python -m tests.acceptance.chaos --rounds '$(or $(ROUNDS),100)' --report docs/reliability.md

chaos-reading: setup ## kill Elasticsearch five times under 16 writers and 16 readers, 10 minutes; streams of a million events
	FULL_RUN=1 $(BIN)/python -m pytest tests/acceptance/reading --timeout 1800 -o log_cli=true -o log_cli_level=INFO $(PYTEST)

failover: setup ## take the primary of three PostgreSQLs or etcd away, ROUNDS times under load; ASYNCHRONOUS=1 (etcd in PATH)
	$(BIN)/python -m pip install -q 'patroni[etcd3]>=4.1,<5'
	$(BIN)/python -m tests.acceptance.failover --rounds '$(or $(ROUNDS),7)' $(if $(ASYNCHRONOUS),--asynchronous,--report docs/scaling.md)

attack: setup ## attack the service for minutes beside clients that mean well, and write what was seen into docs/reliability.md
	FULL_RUN=1 REPORT=docs/reliability.md $(BIN)/python -m pytest tests/attack --timeout 1800 $(PYTEST)

typed-client: setup ## make a typed client of /openapi.json, check its types, store and find an event with it
	test -x .venv/client/bin/mypy || { $(BIN)/python -m venv .venv/client && \
	    .venv/client/bin/python -m pip install -q 'openapi-python-client>=0.29,<0.30' mypy; }
	TYPED_CLIENT_PYTHON="$$PWD/.venv/client/bin/python" $(BIN)/python -m pytest tests/integration/access/test_typed_client.py $(PYTEST)

audit: setup ## known weaknesses of what the image is built from (asks pypi.org; what cannot be looked up is a failure)
	$(BIN)/python -m pip install -q pip-audit
	$(BIN)/pip-audit --strict --require-hashes --disable-pip -r config/requirements.txt

fuzz: setup ## random and mutated texts for the query parser, TEXTS of them (a million)
	$(BIN)/python tests/fuzz/fuzz_parse.py $(TEXTS)

nightly: setup ## property tests with new examples; the query language on random events and real log lines, at length
	$(BIN)/python -m pytest tests/unit --hypothesis-profile=new --timeout 3600
	LANGUAGE_EXAMPLES=2000 LANGUAGE_LOG_LINES=30000 LANGUAGE_LOG_QUERIES=500 \
	    $(BIN)/python -m pytest tests/integration/language --timeout 14400

bench-ingest: setup ## single and bulk events beside what PostgreSQL alone can do
	@$(BIN)/python -m tests.bench.ingest --report docs/ingest.md

bench-index: setup ## the indexer beside bare elasticsearch-py, its lag, reindex and verify of a million events
	$(BIN)/python -m tests.bench.index --report docs/reliability.md

bench-query: setup ## searches beside bare Elasticsearch, a wildcard, and PostgreSQL alone; 100,000 and 1,000,000 events
	@$(BIN)/python -m tests.bench.query $(COUNTS) --report docs/reading.md

bench-query-large: setup ## the same searches with 1,000,000 and 10,000,000 events (an hour, 40 GB of disk)
	@$(BIN)/python -m tests.bench.query 1000000 10000000 --name bench-query-large --report docs/reading.md

bench-page: setup browser ## what a person waits for at the page: first paint, first events, keystrokes, scrolling
	@$(BIN)/python -m tests.bench.page --report docs/page.md

bench-scale: setup ## API workers, indexers, Elasticsearch nodes, read replicas, cached answers; Citus with EVENTSVC_TEST_CITUS_URL
	@$(BIN)/python -m tests.bench.scale --report docs/scaling.md

simulate: setup ## a day of 10^9 events on layouts of many machines, by a model that this machine feeds and checks
	@$(BIN)/python -m tests.bench.simulate --report docs/scaling.md

bench-erase: setup ## POSTs and searches while half of COUNT events (2,000,000) are erased (half an hour)
	@$(BIN)/python -m tests.bench.erase $(COUNT) --report docs/erasing.md

clean: ## what can be made again; not the data
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
