// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/store_model.h"

#include "absl/strings/str_cat.h"

#include "algos/base/hash.h"
#include "algos/base/rng.h"
#include "tests/sim/region_model.h"

namespace evenkeel::sim {

std::string StoreModel::HostName(int group, int rank) const { return absl::StrCat("host-", group, "-", HostOf(rank)); }

std::vector<Endpoint> StoreModel::RankEndpoints(int group, int rank) const {
  return {{.transport = "ucx", .host = HostName(group, rank), .address = "region"}};
}

std::vector<Endpoint> StoreModel::AllEndpoints(int group, int rank) const {
  std::vector<Endpoint> endpoints = RankEndpoints(group, rank);
  const std::string host = HostName(group, rank);
  if (options_.pool) endpoints.push_back({"pool", host, absl::StrCat("pool of ", host)});
  if (options_.snapshot) endpoints.push_back({"snapshot", host, absl::StrCat("snapshot of group ", group)});
  return endpoints;
}

absl::Time StoreModel::ReadyAt(int group, int rank) const {
  Rng rng(MixBits(options_.seed ^ static_cast<uint64_t>(group * 100 + HostOf(rank))));
  return absl::UnixEpoch() + absl::Seconds(10) * rng.Uniform() * rng.Uniform();
}

bool StoreModel::Draw(const std::string& what, LayerId layer, ExpertId expert, double chance) const {
  uint64_t key = options_.seed;
  for (char letter : what) key = MixBits(key ^ static_cast<uint64_t>(static_cast<unsigned char>(letter)));
  Rng rng(MixBits(key ^ (static_cast<uint64_t>(layer.idx()) << 32 | expert.idx())));
  return rng.Chance(chance);
}

std::optional<uint64_t> StoreModel::Read(int, const Endpoint& store, uint64_t weights_version, LayerId layer,
                                         ExpertId expert) const {
  if (Draw(absl::StrCat("lacks ", store.address), layer, expert, options_.store_lacks)) return std::nullopt;
  const uint64_t good = GoodContent(weights_version, layer, expert);
  const bool damaged = Draw(absl::StrCat("damages ", store.address), layer, expert, options_.store_corrupts);
  return damaged ? MixBits(good) : good;
}

}  // namespace evenkeel::sim
