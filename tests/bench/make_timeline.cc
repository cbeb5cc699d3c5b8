// SPDX-License-Identifier: Apache-2.0
//
// make_timeline: a production-like timeline out of recorded expert counts.
//
//   make_timeline COUNTS.npy TIMELINE.npy --domains=D [--windows=600] [--copies=160000] [--layers=5,20] [--seed=1]
//
// COUNTS is [windows, layers, experts], its windows D equal runs of consecutive ones, each the shards of one domain of
// text. Traffic is a mixture of the domains whose log weights walk (Ornstein-Uhlenbeck, spread --sigma, correlation
// time --tau windows); inside a domain its shards are blended anew every --reblend windows (Dirichlet, 2 each); and
// every window and layer is one multinomial draw of --copies routed tokens. All follows from the seed.
#include <cmath>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "algos/base/rng.h"
#include "algos/base/status_macros.h"
#include "algos/replay/multinomial.h"
#include "cli/arguments.h"
#include "cli/files/file.h"
#include "cli/files/npy.h"

namespace evenkeel::bench {
namespace {

constexpr cli::Option kOptions[] = {
    {"domains", "D", "equal runs of windows in the counts; needed"},
    {"windows", "N", "of the timeline (default 600)"},
    {"copies", "N", "routed token copies of a window and layer (default 160000)"},
    {"layers", "L", "layers to keep, for example 5,20 (default: all)"},
    {"sigma", "S", "spread of the domains' log weights (default 1.2)"},
    {"tau", "T", "correlation time of the mixture, in windows (default 200)"},
    {"reblend", "N", "windows between blends (default 20)"},
    {"seed", "N", "default 1"},
};
constexpr cli::Operand kOperands[] = {{"COUNTS", "recorded counts, .npy"}, {"TIMELINE", "where to write, .npy"}};

struct Recipe {
  size_t domains = 0, windows = 0, reblend = 0;
  uint64_t copies = 0, seed = 0;
  double sigma = 0, tau = 0;
  std::vector<uint32_t> layers;
};

absl::StatusOr<Recipe> RecipeFrom(const cli::Arguments& arguments) {
  Recipe recipe;
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t domains, arguments.GetInteger("domains", 0, 1, 1 << 20));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t windows, arguments.GetInteger("windows", 600, 1, 1 << 20));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t copies, arguments.GetInteger("copies", 160'000, 1, UINT32_MAX));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t reblend, arguments.GetInteger("reblend", 20, 1, 1 << 20));
  EVENKEEL_ASSIGN_OR_RETURN(const int64_t seed, arguments.GetInteger("seed", 1, 0, INT64_MAX));
  EVENKEEL_ASSIGN_OR_RETURN(recipe.sigma, arguments.GetNumber("sigma", 1.2, 0, 100));
  EVENKEEL_ASSIGN_OR_RETURN(recipe.tau, arguments.GetNumber("tau", 200, 1e-3, 1e9));
  EVENKEEL_ASSIGN_OR_RETURN(recipe.layers, arguments.GetRanges("layers", 1 << 20));
  if (domains == 0) return absl::InvalidArgumentError("--domains is missing");
  recipe.domains = static_cast<size_t>(domains), recipe.windows = static_cast<size_t>(windows);
  recipe.reblend = static_cast<size_t>(reblend), recipe.copies = static_cast<uint64_t>(copies);
  recipe.seed = static_cast<uint64_t>(seed);
  return recipe;
}

// [domains * shards][layers * experts]: each row of a layer adds up to 1, or is 0.
struct Profiles {
  size_t domains = 0, shards = 0, layers = 0, experts = 0;
  std::vector<double> values;
};

absl::StatusOr<Profiles> ProfilesFrom(const cli::NpyArray& counts, Recipe& recipe) {
  if (counts.shape.size() != 3 || counts.shape[0] < recipe.domains) {
    return absl::InvalidArgumentError(
        absl::StrCat("wanted are counts of [windows, layers, experts] with ", recipe.domains, " windows or more"));
  }
  if (recipe.layers.empty()) {
    for (uint32_t l = 0; l < counts.shape[1]; ++l) recipe.layers.push_back(l);
  }
  if (recipe.layers.back() >= counts.shape[1]) {
    return absl::InvalidArgumentError(absl::StrCat("there is no layer ", recipe.layers.back()));
  }
  Profiles profiles{.domains = recipe.domains,
                    .shards = counts.shape[0] / recipe.domains,
                    .layers = recipe.layers.size(),
                    .experts = counts.shape[2],
                    .values = {}};
  for (size_t w = 0; w < profiles.domains * profiles.shards; ++w) {
    for (uint32_t layer : recipe.layers) {
      const uint64_t* row = counts.values.data() + (w * counts.shape[1] + layer) * profiles.experts;
      double total = 0;
      for (size_t e = 0; e < profiles.experts; ++e) total += static_cast<double>(row[e]);
      for (size_t e = 0; e < profiles.experts; ++e) {
        profiles.values.push_back(total > 0 ? static_cast<double>(row[e]) / total : 0);
      }
    }
  }
  return profiles;
}

// Gamma of shape 2: the sum of two exponentials.
double GammaOfTwo(Rng& rng) { return -std::log((1 - rng.Uniform()) * (1 - rng.Uniform())); }

cli::NpyArray Compose(const Profiles& profiles, const Recipe& recipe) {
  Rng walk(recipe.seed * 3), blends(recipe.seed * 3 + 1), draws(recipe.seed * 3 + 2);
  const double keep = std::exp(-1.0 / recipe.tau), step = std::sqrt(1 - keep * keep) * recipe.sigma;
  std::vector<double> state(profiles.domains), blend(profiles.domains * profiles.shards);
  for (double& value : state) value = recipe.sigma * walk.Normal();
  cli::NpyArray timeline{.shape = {recipe.windows, profiles.layers, profiles.experts}, .values = {}};
  timeline.values.resize(recipe.windows * profiles.layers * profiles.experts);
  std::vector<double> mix(profiles.layers * profiles.experts);
  for (size_t t = 0; t < recipe.windows; ++t) {
    double weights = 0;
    for (double& value : state) {
      value = keep * value + step * walk.Normal();
      weights += std::exp(value);
    }
    for (size_t d = 0; d < profiles.domains && t % recipe.reblend == 0; ++d) {
      double total = 0;
      for (size_t s = 0; s < profiles.shards; ++s) total += blend[d * profiles.shards + s] = GammaOfTwo(blends);
      for (size_t s = 0; s < profiles.shards; ++s) blend[d * profiles.shards + s] /= total;
    }
    mix.assign(mix.size(), 0.0);
    for (size_t i = 0; i < blend.size(); ++i) {
      const double weight = std::exp(state[i / profiles.shards]) / weights * blend[i];
      for (size_t cell = 0; cell < mix.size(); ++cell) mix[cell] += weight * profiles.values[i * mix.size() + cell];
    }
    for (size_t l = 0; l < profiles.layers; ++l) {
      const auto row = std::span(timeline.values).subspan((t * profiles.layers + l) * profiles.experts);
      algos::DrawMultinomial(recipe.copies, std::span(mix).subspan(l * profiles.experts, profiles.experts),
                             row.first(profiles.experts), draws);
    }
  }
  return timeline;
}

absl::Status Run(const std::vector<std::string>& words) {
  EVENKEEL_ASSIGN_OR_RETURN(const cli::Arguments arguments, cli::Arguments::Parse(kOptions, words, kOperands));
  EVENKEEL_RETURN_IF_ERROR(arguments.RequireAll(kOperands));
  EVENKEEL_ASSIGN_OR_RETURN(Recipe recipe, RecipeFrom(arguments));
  EVENKEEL_ASSIGN_OR_RETURN(const cli::NpyArray counts, cli::ReadNpy(arguments.Get("COUNTS")));
  EVENKEEL_ASSIGN_OR_RETURN(const Profiles profiles, ProfilesFrom(counts, recipe));
  return cli::WriteFile(arguments.Get("TIMELINE"), cli::RenderNpy(Compose(profiles, recipe)));
}

}  // namespace
}  // namespace evenkeel::bench

int main(int argc, char** argv) {
  const absl::Status status = evenkeel::bench::Run({argv + 1, argv + argc});
  if (status.ok()) return 0;
  std::cerr << "make_timeline: " << status.message() << "\n"
            << evenkeel::cli::DescribeOperands(evenkeel::bench::kOperands)
            << evenkeel::cli::DescribeOptions(evenkeel::bench::kOptions);
  return 2;
}
