"""proto_library_cc: protoc, with the gRPC plugin where asked for, then one cc_library."""

def proto_library_cc(name, src, deps = [], grpc = False):
    base = src[:-len(".proto")]
    outs = [base + s for s in [".pb.cc", ".pb.h"] + ([".grpc.pb.cc", ".grpc.pb.h"] if grpc else [])]
    flags = "--grpc_out=$(GENDIR) --plugin=protoc-gen-grpc=$$(command -v grpc_cpp_plugin)" if grpc else ""

    # Generated headers count as system headers: our warnings are for our code.
    native.genrule(
        name = name + "_codegen",
        srcs = [src] + [d + "_src" for d in deps],
        outs = outs,
        cmd = "protoc -I. --cpp_out=$(GENDIR) %s $(location %s) && " % (flags, src) +
              "for h in $(OUTS); do case $$h in *.h) " +
              "sed -i '1i #pragma GCC system_header' $$h ;; esac; done",
    )
    native.filegroup(name = name + "_src", srcs = [src])
    native.cc_library(
        name = name,
        srcs = [o for o in outs if o.endswith(".cc")],
        hdrs = [o for o in outs if o.endswith(".h")],
        deps = deps + ["@system//:grpc" if grpc else "@system//:protobuf"],
    )
