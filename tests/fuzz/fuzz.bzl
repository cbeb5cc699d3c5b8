"""fuzz_target: a parser of bytes from outside, run on changed seeds in every build, and by libFuzzer where asked."""

def fuzz_target(name, srcs, deps):
    """`srcs` as the test `name`_fuzz_test, and as `name`_fuzzer for deploy/fuzz.sh (--config=fuzz)."""
    native.cc_test(
        name = name + "_fuzz_test",
        size = "small",
        srcs = srcs,
        deps = deps + [
            ":fuzz",
            ":replay_main",
        ],
    )
    native.cc_binary(
        name = name + "_fuzzer",
        testonly = True,
        srcs = srcs,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = deps + [":fuzz"],
    )
