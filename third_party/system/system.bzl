"""A repository whose targets are libraries installed on this machine, found with pkg-config.

Also looks for the CUDA toolkit: `cuda.bzl` of the repository exports CUDA_HOME, empty where no nvcc
is installed, so that CUDA targets are left out of the build instead of failing it, and CUDA_ARCHS.
"""

def _words(ctx, option, modules):
    result = ctx.execute(["pkg-config", option] + modules)
    if result.return_code:
        fail("pkg-config %s %s: %s" % (option, " ".join(modules), result.stderr))
    return [w for w in result.stdout.strip().split(" ") if w]

def _cuda_home(ctx):
    for home in [ctx.os.environ.get("CUDA_HOME", ""), "/usr/local/cuda", "/usr/lib/cuda"]:
        if home and ctx.path(home + "/bin/nvcc").exists:
            return home
    return ""

# Of the GPUs we build for, those that this nvcc knows.
def _cuda_archs(ctx, home):
    known = ctx.execute([home + "/bin/nvcc", "--list-gpu-arch"]).stdout.split("\n") if home else []
    return [arch for arch in ["80", "90", "100"] if "compute_" + arch in known]

def _system_libraries_impl(ctx):
    lines = ["package(default_visibility = [\"//visibility:public\"])"]
    for name, modules in ctx.attr.packages.items():
        flags = [m for m in modules if m.startswith("-l")]  # libraries without a .pc file
        modules = [m for m in modules if not m.startswith("-l")]
        linkopts = flags + _words(ctx, "--libs", modules)
        defines = [w[2:] for w in _words(ctx, "--cflags", modules) if w.startswith("-D")]
        lines.append("cc_library(name = %r, linkopts = %r, defines = %r)" % (name, linkopts, defines))
    ctx.file("BUILD.bazel", "\n".join(lines) + "\n")
    home = _cuda_home(ctx)
    ctx.file("cuda.bzl", "CUDA_HOME = %r\nCUDA_ARCHS = %r\n" % (home, _cuda_archs(ctx, home)))

system_libraries = repository_rule(
    implementation = _system_libraries_impl,
    attrs = {"packages": attr.string_list_dict()},
    environ = ["PKG_CONFIG_PATH", "CUDA_HOME"],
    local = True,
)
