// SPDX-License-Identifier: Apache-2.0
//
// Pool and snapshot: how fast they are filled and restored from, beside the memory's and the disk's own copy rates in
// the same run.
//
// The rank's experts are those of a large model in small: 8 layers of 8 experts of 4.19 MB in three tensors. Each sample
// is a whole fill or restore of all of them, without a limit of bytes per second; rates are bytes of experts. The pool's
// are those of a second of the process's CPU time, as others use the machine too; the snapshot's are of wall-clock time.
// Fills fingerprint what they write, into a pool that is new; so does what they are compared with. Restores from a pool
// leave fingerprints to the agent, those from a snapshot do not. Memory's own rate is memcpy between the same buffers;
// the disk's own is write and fsync, and read, of files of the same sizes by 1 MiB, dropped from the page cache before
// they are read.
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/synchronization/notification.h"

#include "agent/core/map_update.h"
#include "agent/stores/held_experts.h"
#include "agent/stores/host_pool.h"
#include "agent/stores/pool_filler.h"
#include "agent/stores/pool_reader.h"
#include "agent/stores/snapshot_keeper.h"
#include "agent/stores/snapshot_reader.h"
#include "agent/stores/store_transport.h"
#include "agent/throttle.h"
#include "engine/evenkeel.h"
#include "engine/region/agent_region.h"
#include "runtime/clock.h"
#include "tests/bench/bench.h"

ABSL_FLAG(std::string, memory, "/dev/shm", "folder in shared memory for region and pool");
ABSL_FLAG(std::string, disk, "/tmp", "folder on the disk for the snapshot");
ABSL_FLAG(int, samples, 7, "of each figure");

namespace evenkeel::bench {
namespace {

using agent::HostPool;
using runtime::MonotonicNow;

constexpr int kLayers = 8;
constexpr int kExperts = 8;
constexpr uint64_t kTensorBytes[] = {2'700'000, 1'450'000, 44'304};
constexpr uint64_t kPiece = 1 << 20;

uint64_t ExpertBytes() { return kTensorBytes[0] + kTensorBytes[1] + kTensorBytes[2]; }
uint64_t AllBytes() { return uint64_t{kLayers} * kExperts * ExpertBytes(); }

void Check(bool ok, const std::string& what) {
  if (ok) return;
  std::fprintf(stderr, "stores_bench: %s\n", what.c_str());
  std::exit(1);
}

// Gigabytes a second: of the median sample, and of the slowest.
struct Rate {
  double median = 0;
  double slowest = 0;
};

double SecondsOf(clockid_t clock) {
  timespec now = {};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}
constexpr clockid_t kCpu = CLOCK_PROCESS_CPUTIME_ID;
constexpr clockid_t kWall = CLOCK_MONOTONIC;

Rate Measure(clockid_t clock, int num_samples, uint64_t bytes, const std::function<void()>& prepare,
             const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int i = 0; i < num_samples + 1; ++i) {
    prepare();
    const double begin = SecondsOf(clock);
    work();
    if (i > 0) seconds.push_back(SecondsOf(clock) - begin);  // the first warms up
  }
  const Timing timing = Summarise(seconds);
  return {static_cast<double>(bytes) / timing.median_us * 1e-9, static_cast<double>(bytes) / timing.p99_us * 1e-9};
}

void Print(const char* what, Rate rate, const char* reference, Rate own) {
  std::printf("%-18s %7.2f GB/s median, %7.2f slowest; %-24s %7.2f GB/s; ratio %.2f\n", what, rate.median, rate.slowest,
              reference, own.median, rate.median / own.median);
}

// One rank that holds all experts.
class Rank {
 public:
  explicit Rank(const std::string& directory) {
    evenkeel_options options = {};
    options.abi_version = EVENKEEL_ABI_VERSION;
    options.directory = directory.c_str();
    options.group = "bench";
    options.model = "model";
    options.num_ranks = 1;
    options.num_layers = kLayers;
    options.num_experts = kExperts;
    options.slots_per_rank = kExperts;
    options.weights_bytes = AllBytes() + (1 << 20);
    evenkeel_error error = {};
    Check(evenkeel_create(&options, &engine_, &error) == EVENKEEL_OK, error.message);
    for (int layer = 0; layer < kLayers; ++layer) {
      for (size_t t = 0; t < 3; ++t) {
        const uint64_t bytes = kTensorBytes[t];
        auto* data = static_cast<unsigned char*>(evenkeel_alloc_weights(engine_, kExperts * bytes));
        Check(data != nullptr, "no room for weights");
        for (uint64_t i = 0; i < kExperts * bytes; ++i) data[i] = static_cast<unsigned char>(i * 31 + t);
        const std::string name = "tensor" + std::to_string(t);
        Check(evenkeel_add_tensor(engine_, layer, name.c_str(), "u8", data, bytes, bytes, &error) == EVENKEEL_OK,
              error.message);
      }
    }
    Check(evenkeel_ready(engine_, &error) == EVENKEEL_OK, error.message);
    auto region = engine::AgentRegion::Open(evenkeel_path(engine_));
    Check(region.ok(), region.status().ToString());
    region_ = *std::move(region);
    maps_ = agent::DefaultMaps(region_->group());
    owners_ = agent::OwnersOf(*maps_, region_->group().shape);
  }
  ~Rank() {
    region_.reset();
    evenkeel_destroy(engine_);
  }

  const engine::AgentRegion& region() const { return *region_; }
  const agent::Maps& maps() const { return *maps_; }
  const agent::Owners& owners() const { return owners_; }

 private:
  evenkeel_region* engine_ = nullptr;
  std::unique_ptr<engine::AgentRegion> region_;
  std::shared_ptr<const agent::Maps> maps_;
  agent::Owners owners_;
};

bool AnyPace(uint64_t) { return true; }

// Reads every expert by `transport` into one buffer, one after the other.
void RestoreAll(const Rank& rank, agent::Transport& transport, const Endpoint& endpoint, std::vector<std::byte>& room) {
  uint64_t id = 0;
  for (const agent::HeldExpert& held : agent::HeldExpertsOf(rank.region())) {
    agent::TransferRequest request;
    request.transfer_id = ++id;
    request.layer = held.layer;
    request.expert = held.expert;
    request.fingerprint = held.fingerprint;
    request.source.endpoint = endpoint;
    uint64_t at = 0;
    for (const uint64_t bytes : kTensorBytes) {
      request.destination.push_back(std::span(room).subspan(at, bytes));
      at += bytes;
    }
    request.deadline = MonotonicNow() + absl::Minutes(5);
    absl::Notification ended;
    absl::Status status;
    const absl::Status started = transport.Start(request, [&](const agent::TransferResult& result) {
      status = result.status;
      ended.Notify();
    });
    Check(started.ok(), started.ToString());
    ended.WaitForNotification();
    Check(status.ok(), status.ToString());
  }
}

void DropFromCache(const std::string& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const int fd = ::open(entry.path().c_str(), O_RDONLY);
    if (fd >= 0) ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (fd >= 0) ::close(fd);
  }
}

void WriteFiles(const std::string& folder, const std::vector<std::byte>& from) {
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string path = folder + "/plain" + std::to_string(layer);
    const int fd = ::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600);
    for (uint64_t left = kExperts * ExpertBytes(); left > 0;) {
      const uint64_t piece = std::min(left, kPiece);
      Check(::write(fd, from.data(), piece) == static_cast<ssize_t>(piece), "cannot write " + path);
      left -= piece;
    }
    Check(::fsync(fd) == 0, "cannot synchronise " + path);
    ::close(fd);
  }
}

void ReadFiles(const std::string& folder, std::vector<std::byte>& to) {
  for (int layer = 0; layer < kLayers; ++layer) {
    const int fd = ::open((folder + "/plain" + std::to_string(layer)).c_str(), O_RDONLY);
    while (::read(fd, to.data(), kPiece) > 0) {
    }
    ::close(fd);
  }
}

void RunPool(const Rank& rank, const std::string& memory, int samples, const std::shared_ptr<agent::Throttle>& throttle,
             std::vector<std::byte>& room) {
  std::unique_ptr<HostPool> pool;
  const agent::StoreIdentity identity = agent::IdentityOf(rank.region());
  const auto renew = [&] {
    if (pool != nullptr) pool->RemoveIfLast();
    pool.reset();
    auto entered = HostPool::Enter(
        {.directory = memory, .host = "bench", .rank = RankId(0), .num_ranks = 1, .bytes_max = AllBytes() * 2},
        identity);
    Check(entered.ok(), entered.status().ToString());
    pool = *std::move(entered);
  };
  // What the pool's bytes are copied from and to, as plainly as can be; then fingerprinted as plainly.
  const auto held = agent::HeldExpertsOf(rank.region());
  const auto copy_all = [&] {
    for (uint64_t i = 0; i < held.size(); ++i) {
      const auto tensors = pool->view().TensorsIn(i, held[i].layer);
      size_t t = 0;
      for (const auto& bytes : rank.region().SlotBytes(held[i].layer, held[i].slot)) {
        std::memcpy(tensors[t++].data(), bytes.data(), bytes.size());
      }
    }
  };
  renew();
  const Rate copies = Measure(
      kCpu, samples, AllBytes(), [] {}, copy_all);
  const Rate checked = Measure(kCpu, samples, AllBytes(), renew, [&] {
    copy_all();
    for (uint64_t i = 0; i < held.size(); ++i) Check(pool->view().FingerprintOf(i, held[i].layer) != 0, "");
  });
  const Rate fill = Measure(kCpu, samples, AllBytes(), renew, [&] {
    const agent::PoolFill done =
        agent::FillPool(rank.region(), rank.maps(), rank.owners(), *pool, AnyPace, absl::InfiniteFuture());
    Check(done.bytes == AllBytes() && done.trouble.ok(), done.trouble.ToString());
  });
  agent::StoreTransport transport(
      {.name = "pool",
       .host = "bench",
       .cost = 0,
       .throttle = throttle,
       .open = [&](const agent::TransferRequest& request) { return agent::OpenPoolReader(identity, request); }});
  const Endpoint endpoint = {"pool", "bench", agent::RenderPoolAddress({pool->view().path(), ""})};
  const Rate restore = Measure(
      kCpu, samples, AllBytes(), [] {}, [&] { RestoreAll(rank, transport, endpoint, room); });
  Print("pool fill", fill, "memcpy and fingerprint", checked);
  Print("", fill, "memcpy, pages mapped", copies);
  Print("pool restore", restore, "memcpy, pages mapped", copies);
  pool->RemoveIfLast();
}

void RunSnapshot(const Rank& rank, const std::string& disk, int samples,
                 const std::shared_ptr<agent::Throttle>& throttle, std::vector<std::byte>& room) {
  const std::string plain = disk + "/plain";
  std::filesystem::create_directory(plain);
  const agent::SnapshotKeeper first(rank.region(), disk);
  const std::string folder = first.folder().path();
  const Rate writes = Measure(
      kWall, samples, AllBytes(), [&] { std::filesystem::remove_all(plain + "/plain0"); },
      [&] { WriteFiles(plain, room); });
  const Rate reads = Measure(
      kWall, samples, AllBytes(), [&] { DropFromCache(plain); }, [&] { ReadFiles(plain, room); });
  const Rate fill = Measure(
      kWall, samples, AllBytes(), [&] { std::filesystem::remove_all(folder); },
      [&] {
        agent::SnapshotKeeper keeper(rank.region(), disk);
        agent::SnapshotKeeper::Work work;
        const absl::Status status = keeper.Look(rank.owners(), AnyPace, work);
        Check(status.ok() && work.bytes_written == AllBytes(), status.ToString());
      });
  agent::StoreTransport transport({.name = "snapshot",
                                   .host = "bench",
                                   .cost = 0,
                                   .throttle = throttle,
                                   .open = agent::SnapshotOpener(agent::IdentityOf(rank.region()))});
  const Endpoint endpoint = {"snapshot", "bench", disk};
  const Rate restore = Measure(
      kWall, samples, AllBytes(), [&] { DropFromCache(folder); }, [&] { RestoreAll(rank, transport, endpoint, room); });
  const Rate cached = Measure(
      kWall, samples, AllBytes(), [] {}, [&] { RestoreAll(rank, transport, endpoint, room); });
  Print("snapshot fill", fill, "write and fsync", writes);
  Print("snapshot restore", restore, "read, not cached", reads);
  Print("  from the cache", cached, "read, not cached", reads);
}

void Run() {
  std::string memory = absl::GetFlag(FLAGS_memory) + "/stores_bench.XXXXXX",
              disk = absl::GetFlag(FLAGS_disk) + "/stores_bench.XXXXXX";
  Check(::mkdtemp(memory.data()) != nullptr && ::mkdtemp(disk.data()) != nullptr, "cannot make folders");
  const int samples = absl::GetFlag(FLAGS_samples);
  {
    const Rank rank(memory);
    const auto throttle = std::make_shared<agent::Throttle>();
    std::vector<std::byte> room(kExperts * ExpertBytes());
    std::printf("input      %d layers of %d experts of %.2f MB, %.0f MB in all\nbatch      all of them\n", kLayers,
                kExperts, static_cast<double>(ExpertBytes()) * 1e-6, static_cast<double>(AllBytes()) * 1e-6);
    std::printf("samples    %d; pool: of CPU time, snapshot: of wall-clock time\n", samples);
    RunPool(rank, memory, samples, throttle, room);
    RunSnapshot(rank, disk, samples, throttle, room);
  }
  std::filesystem::remove_all(memory);
  std::filesystem::remove_all(disk);
}

}  // namespace
}  // namespace evenkeel::bench

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  evenkeel::bench::Run();
  return 0;
}
