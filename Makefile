# The daily commands. CMake does the work; see CMakePresets.json for other builds (debug, asan, tsan, coverage).
PRESET ?= release
BUILD = build/$(PRESET)
# Of `make bench`: a folder that holds base.fvecs, query.fvecs and gt100.ivecs.
DATA ?= build/sift

.PHONY: all check fmt bench coverage install clean
all: $(BUILD)/build.ninja
	cmake --build $(BUILD)

$(BUILD)/build.ninja:
	cmake --preset $(PRESET)

check: all
	ctest --test-dir $(BUILD) --output-on-failure

fmt:
	find src include apps tests bench examples -name '*.[ch]' -o -name '*.cpp' | xargs clang-format-14 -i

bench: all
	@test -e $(DATA)/base.fvecs || { echo "make bench DATA=FOLDER: one with base.fvecs, query.fvecs, gt100.ivecs" >&2; exit 1; }
	bench/compare --lib $(BUILD)/lib/libkith.so --data $(DATA)

coverage:
	$(MAKE) PRESET=coverage all
	ctest --test-dir build/coverage --output-on-failure -L 'unit|contract|fault'
	gcovr --root . --object-directory build/coverage --filter src/ --print-summary \
	    --html-details build/coverage/coverage.html

install: all
	cmake --install $(BUILD)

clean:
	rm -rf build
