// SPDX-License-Identifier: Apache-2.0
//
// UcxWorker: one UCX worker with the memory it offers and its connections, as plain calls.
//
// Threads:   one at a time makes all calls (Create may be on another, before); Signal may be called from any.
// Owns:      context, worker, registration of the memory, connections. The memory itself outlives it.
// Order:     each Read answers kDone, or calls done exactly once from within Progress; also after Disconnect, which makes
//            what is under way end soon. No byte is written to the destination after that. Hellos of others are answered
//            from within Progress.
// Errors:    as UcxStatus translates them.
#pragma once

#include <ucp/api/ucp.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "algos/protocol/identity.h"
#include "runtime/read_pass.h"

namespace evenkeel::agent {

// kUnavailable for everything that says peer or link; `doing` begins the message.
absl::Status UcxStatus(ucs_status_t status, const std::string& doing);

class UcxWorker {
 public:
  struct Options {
    std::span<std::byte> memory;  // others may read it; reads arrive in it
    std::string tls;              // as UCX_TLS; empty: that variable, or what UCX finds best
    std::string secret;           // of passes to the memory; empty: nobody may read
  };
  struct Peer {
    ucp_ep_h endpoint = nullptr;
    ucp_rkey_h key = nullptr;
    uint64_t memory_begin = 0;      // of the peer
    bool granted = false;           // key and memory_begin are there
    bool refused = false;           // they will not be
    ucs_status_t failure = UCS_OK;  // of the connection; everything under way ends with it
    // Whether UCX itself ends what is under way when it is closed. Where not, what arrives later goes nowhere.
    bool can_be_cut = true;
    ucs_status_ptr_t closing = nullptr;
  };
  using ReadDone = std::function<void(ucs_status_t)>;
  enum class ReadState { kDone, kUnderWay };

  static absl::StatusOr<std::unique_ptr<UcxWorker>> Create(const Options& options);
  // Requires: every Read has ended.
  ~UcxWorker();
  UcxWorker(const UcxWorker&) = delete;
  UcxWorker& operator=(const UcxWorker&) = delete;

  static uint32_t UcxVersion();
  const std::string& address() const { return address_; }

  // Connecting goes on in the background, as does the greeting: until `granted` nothing may be read. The peer is valid
  // until Disconnect.
  absl::StatusOr<Peer*> Connect(const std::string& address, const runtime::ReadPass& pass, const Member& reader);
  void Disconnect(Peer* peer);
  // Requires: granted. `from`: within the peer's memory.
  absl::StatusOr<ReadState> Read(const Peer& peer, uint64_t from, std::span<std::byte> to, ReadDone done);

  // Works off what is there to do; whether there was anything.
  bool Progress();
  // Sleeps on the worker's event descriptor until `at_most` has passed, something arrives, or Signal.
  void Sleep(absl::Duration at_most);
  void Signal();

 private:
  // A read under way.
  struct Call {
    UcxWorker* worker = nullptr;
    uint64_t number = 0;
    const Peer* peer = nullptr;  // null: `done` was called
    ReadDone done;
    std::span<std::byte> to;
    std::vector<std::byte> bounce;  // what UCX writes to, where the peer cannot be cut
  };

  // A hello sent and not answered yet.
  struct Greeting {
    Peer* peer = nullptr;
    runtime::ReadPass pass;
  };

  UcxWorker() = default;
  absl::Status Listen();
  absl::Status Greet(Peer& peer, const runtime::ReadPass& pass, const Member& reader);
  static ucs_status_t HearHello(void* worker, const void* header, size_t header_bytes, void* data, size_t bytes,
                                const ucp_am_recv_param_t* param);
  static ucs_status_t HearAnswer(void* worker, const void* header, size_t header_bytes, void* data, size_t bytes,
                                 const ucp_am_recv_param_t* param);
  // Copies `bytes` until they are sent.
  static absl::Status Say(ucp_ep_h endpoint, unsigned id, uint32_t flags, std::string bytes);
  void TakeAnswer(absl::string_view answer);
  absl::Status Open(const Options& options);
  absl::Status OfferMemory(std::span<std::byte> memory);
  static void EndCall(void* request, ucs_status_t status, void* call);
  void FinishClosing();

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_mem_h memory_ = nullptr;
  int event_fd_ = -1;  // the worker's
  std::string address_, key_, secret_;
  uint64_t memory_begin_ = 0;
  uint64_t num_refused_ = 0;
  absl::btree_map<uint64_t, Greeting> greetings_;  // by nonce
  std::list<Peer> peers_;
  std::list<Peer> closing_;                                 // UCX may name them until they are closed
  absl::btree_map<uint64_t, std::unique_ptr<Call>> calls_;  // by number
  uint64_t num_calls_ = 0;
  bool tries_uncut_first_ = false;
};

}  // namespace evenkeel::agent
