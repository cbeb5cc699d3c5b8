"""catch_test: a Catch2 test, linked with the one shared main."""

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
