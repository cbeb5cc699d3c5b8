"""catch_test: a Catch2 test, linked with the one shared main; gpu_test: one that carries all it needs."""

load("@system//:cuda.bzl", "CUDA_HOME")

def catch_test(name, srcs, deps, size = "small", tags = [], data = [], args = []):
    native.cc_test(
        name = name,
        size = size,
        srcs = srcs,
        args = args,
        data = data,
        tags = tags,
        deps = deps + ["//tests:catch_main"],
    )

def gpu_test(name, srcs, deps, data = []):
    """Runs on machines that have a GPU and only the built binary; left out where there is no CUDA toolkit."""
    if not CUDA_HOME:
        return
    native.cc_test(
        name = name,
        size = "small",
        srcs = srcs,
        linkstatic = True,
        data = data,
        tags = ["gpu"],
        deps = deps + ["//tests:catch_main_alone"],
    )
