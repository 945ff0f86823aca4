# pgsync_itsm: build, install, test.
#
#   make demo          everything from a bare Debian machine to a published portfolio
#   make check         all tests except the long ones
#   make check-long    these: the fault matrix, a soak, the library under valgrind
#   make bench         the benchmarks, in one table; BENCH="a f" only these rows
#
# The targets of HOUSE work where no PostgreSQL is installed yet: they install what is missing and call
# make again for the part that needs PGXS.  The rest is an ordinary PGXS Makefile.

EXTENSION  = pgsync_itsm
MODULE_big = pgsync_itsm
PGFILEDESC = "pgsync_itsm - publishes an application portfolio to an ITSM platform"
EXTVERSION = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" pgsync_itsm.control)

PG_CONFIG ?= pg_config
PGXS      := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)

C_FILES    = $(sort $(wildcard src/*.c))
H_FILES    = $(sort $(wildcard src/*.h))
SQL_FILES  = $(sort $(wildcard src/sql/[0-9]*.sql))
OBJS       = $(C_FILES:.c=.o)
DATA_built = pgsync_itsm--$(EXTVERSION).sql
REGRESS    = $(sort $(patsubst sql/%.sql,%,$(wildcard sql/*.sql)))
ISOLATION  = $(sort $(patsubst test/specs/%.spec,%,$(wildcard test/specs/*.spec)))

LIBRARIES   = libcurl json-c libsodium
SHLIB_LINK  = $(shell pkg-config --libs $(LIBRARIES))
# The headers of the server are taken as system headers: their own warnings are not ours to repair.
PG_CPPFLAGS = -isystem $(shell $(PG_CONFIG) --includedir-server) $(shell pkg-config --cflags $(LIBRARIES))
# Functions that the server calls have the parameters that it passes, used or not; PG_TRY clobbers by design.
PG_CFLAGS   = -Wall -Wextra -Wno-unused-parameter -Wno-clobbered $(WERROR)
EXTRA_CLEAN = results output_iso tmp_check regression.diffs regression.out

# No JIT inlining of an extension that waits for the network; so neither clang nor llvm is needed.
override with_llvm = no

SUITES = regress isolation simulator tap
HOUSE  = deps demo check check-long bench lint format $(SUITES:%=check-%)

.DEFAULT_GOAL = all
.PHONY: $(HOUSE)

ifneq (,$(filter $(HOUSE),$(MAKECMDGOALS)))

# ---- a target of the house was asked for: PGXS stays out, its `check` would be in the way ----

deps:
	@PG_CONFIG='$(PG_CONFIG)' test/lib/install-deps run

demo: deps
	@MAKE='$(MAKE)' PG_CONFIG='$(PG_CONFIG)' test/demo

check: deps
	@MAKE='$(MAKE)' PG_CONFIG='$(PG_CONFIG)' test/check $(SUITES)

$(SUITES:%=check-%): check-%: deps
	@MAKE='$(MAKE)' PG_CONFIG='$(PG_CONFIG)' test/check $*

check-long: deps
	@PG_CONFIG='$(PG_CONFIG)' test/lib/install-deps long
	@MAKE='$(MAKE)' PG_CONFIG='$(PG_CONFIG)' test/check long sanitizer

bench: deps
	@PG_CONFIG='$(PG_CONFIG)' test/lib/install-deps bench
	@MAKE='$(MAKE)' PG_CONFIG='$(PG_CONFIG)' test/check bench

lint: deps
	@PG_CONFIG='$(PG_CONFIG)' test/lib/install-deps lint
	@PG_CONFIG='$(PG_CONFIG)' test/lib/lint

format:
	@PG_CONFIG='$(PG_CONFIG)' test/lib/install-deps lint
	clang-format -i $(C_FILES) $(H_FILES)

OTHERS = all install uninstall installcheck installdirs clean distclean
.PHONY: $(OTHERS)
$(OTHERS):
	@$(MAKE) --no-print-directory $@

else ifneq (,$(wildcard $(PGXS)))

include $(PGXS)

$(OBJS): $(H_FILES) Makefile

$(DATA_built): $(SQL_FILES) pgsync_itsm.control
	cat $(SQL_FILES) > $@.tmp && mv $@.tmp $@

else

# ---- no PostgreSQL to build against ----

clean distclean:
	rm -rf $(OBJS) $(MODULE_big).so $(DATA_built) $(EXTRA_CLEAN)

all install uninstall installcheck:
	@echo "make: no PostgreSQL to build against: '$(PG_CONFIG) --pgxs' names no file" >&2; \
	 echo "make: 'make deps' installs what is needed on Debian; or give PG_CONFIG=/path/to/pg_config" >&2; exit 1

endif

print-%:
	@echo '$* = $($*)'
