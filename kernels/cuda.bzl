"""cuda_library: nvcc to one position-independent object, then a cc_library with the CUDA runtime linked in.

Machine code for each of CUDA_ARCHS, and PTX of the newest for GPUs that come later.

Without a CUDA toolkit (CUDA_HOME is empty) the target is left out, as must be what depends on it.
"""

load("@system//:cuda.bzl", "CUDA_ARCHS", "CUDA_HOME")

def cuda_library(name, src, hdrs, nvcc_hdrs = [], without = None, without_deps = [], **kwargs):
    """nvcc_hdrs: headers of other targets that `src` includes; without: source that takes its place without CUDA, with its deps."""
    if not CUDA_HOME:
        if without:
            native.cc_library(name = name, srcs = [without], hdrs = hdrs, deps = without_deps)
        return
    native.genrule(
        name = name + "_nvcc",
        srcs = [src] + hdrs + nvcc_hdrs,
        outs = [name + ".o"],
        cmd = CUDA_HOME + "/bin/nvcc -std=c++17 -O3 -I. --expt-relaxed-constexpr -Werror all-warnings " +
              " ".join(["-gencode arch=compute_%s,code=sm_%s" % (arch, arch) for arch in CUDA_ARCHS]) +
              " -gencode arch=compute_%s,code=compute_%s" % (CUDA_ARCHS[-1], CUDA_ARCHS[-1]) +
              " -Xcompiler -fPIC -c $(location %s) -o $@" % src,
    )
    native.cc_library(
        name = name,
        srcs = [name + ".o"],
        hdrs = hdrs,
        linkopts = ["-L%s/lib64" % CUDA_HOME, "-l:libcudart_static.a", "-ldl", "-lrt", "-lpthread"],
        **kwargs
    )
