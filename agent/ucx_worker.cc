// SPDX-License-Identifier: Apache-2.0
#include "agent/ucx_worker.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "runtime/clock.h"

namespace evenkeel::agent {

namespace {

using runtime::MonotonicNow;

constexpr absl::Duration kCloseAtMost = absl::Seconds(1);

struct ConfigRelease {
  void operator()(ucp_config_t* config) const { ucp_config_release(config); }
};

// Without it a peer that vanishes is only missed after 20 s.
constexpr char kKeepaliveInterval[] = "1s";

}  // namespace

absl::Status UcxStatus(ucs_status_t status, const std::string& doing) {
  if (status == UCS_OK) return absl::OkStatus();
  const std::string message = absl::StrCat(doing, ": ", ucs_status_string(status));
  switch (status) {
    case UCS_ERR_NO_MEMORY:
    case UCS_ERR_NO_RESOURCE:
    case UCS_ERR_EXCEEDS_LIMIT:
      return absl::ResourceExhaustedError(message);
    case UCS_ERR_INVALID_PARAM:
    case UCS_ERR_INVALID_ADDR:
    case UCS_ERR_UNSUPPORTED:
    case UCS_ERR_NO_DEVICE:
    case UCS_ERR_NOT_IMPLEMENTED:
      return absl::FailedPreconditionError(message);
    default:
      return absl::UnavailableError(message);
  }
}

absl::StatusOr<std::unique_ptr<UcxWorker>> UcxWorker::Create(const Options& options) {
  std::unique_ptr<UcxWorker> worker(new UcxWorker());
  EVENKEEL_RETURN_IF_ERROR(worker->Open(options));
  EVENKEEL_RETURN_IF_ERROR(worker->OfferMemory(options.memory));
  return worker;
}

absl::Status UcxWorker::Open(const Options& options) {
  ucp_config_t* read = nullptr;
  EVENKEEL_RETURN_IF_ERROR(UcxStatus(ucp_config_read(nullptr, nullptr, &read), "read UCX's settings"));
  const std::unique_ptr<ucp_config_t, ConfigRelease> config(read);
  EVENKEEL_RETURN_IF_ERROR(
      UcxStatus(ucp_config_modify(read, "KEEPALIVE_INTERVAL", kKeepaliveInterval), "set UCX's keepalive"));
  if (!options.tls.empty()) {
    EVENKEEL_RETURN_IF_ERROR(UcxStatus(ucp_config_modify(read, "TLS", options.tls.c_str()), "set UCX's transports"));
  }
  ucp_params_t params = {};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME;
  params.features = UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP;
  params.name = "evenkeel-agent";
  EVENKEEL_RETURN_IF_ERROR(UcxStatus(ucp_init(&params, read, &context_), "start UCX"));

  ucp_worker_params_t worker_params = {};
  worker_params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE | UCP_WORKER_PARAM_FIELD_EVENTS;
  worker_params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  worker_params.events = UCP_WAKEUP_RMA | UCP_WAKEUP_RX | UCP_WAKEUP_TX;
  EVENKEEL_RETURN_IF_ERROR(UcxStatus(ucp_worker_create(context_, &worker_params, &worker_), "make a UCX worker"));
  EVENKEEL_RETURN_IF_ERROR(UcxStatus(ucp_worker_get_efd(worker_, &event_fd_), "get the UCX worker's descriptor"));

  ucp_address_t* address = nullptr;
  size_t size = 0;
  EVENKEEL_RETURN_IF_ERROR(UcxStatus(ucp_worker_get_address(worker_, &address, &size), "get the UCX worker's address"));
  address_.assign(reinterpret_cast<const char*>(address), size);
  ucp_worker_release_address(worker_, address);
  return absl::OkStatus();
}

absl::Status UcxWorker::OfferMemory(std::span<std::byte> memory) {
  ucp_mem_map_params_t params = {};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
  params.address = memory.data();
  params.length = memory.size();
  const std::string doing = absl::StrCat("register ", memory.size(), " bytes with UCX");
  EVENKEEL_RETURN_IF_ERROR(UcxStatus(ucp_mem_map(context_, &params, &memory_), doing));
  void* key = nullptr;
  size_t size = 0;
  EVENKEEL_RETURN_IF_ERROR(UcxStatus(ucp_rkey_pack(context_, memory_, &key, &size), doing));
  key_.assign(static_cast<const char*>(key), size);
  ucp_rkey_buffer_release(key);
  return absl::OkStatus();
}

UcxWorker::~UcxWorker() {
  while (!peers_.empty()) Disconnect(&peers_.front());
  const absl::Time end = MonotonicNow() + kCloseAtMost;
  while (!closing_.empty() && MonotonicNow() < end) {
    if (!Progress()) Sleep(absl::Milliseconds(1));
  }
  if (memory_ != nullptr) static_cast<void>(ucp_mem_unmap(context_, memory_));
  if (worker_ != nullptr) ucp_worker_destroy(worker_);
  if (context_ != nullptr) ucp_cleanup(context_);
}

uint32_t UcxWorker::UcxVersion() {
  unsigned major = 0, minor = 0, release = 0;
  ucp_get_version(&major, &minor, &release);
  return major << 16 | minor;
}

absl::StatusOr<UcxWorker::Peer*> UcxWorker::Connect(const std::string& address, const std::string& key) {
  Peer& peer = peers_.emplace_back();
  ucp_ep_params_t params = {};
  params.field_mask =
      UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.arg = &peer;
  params.err_handler.cb = [](void* arg, ucp_ep_h, ucs_status_t status) { static_cast<Peer*>(arg)->failure = status; };
  absl::Status status = UcxStatus(ucp_ep_create(worker_, &params, &peer.endpoint), "connect by UCX");
  if (!status.ok()) {
    peers_.pop_back();
    return status;
  }
  status = UcxStatus(ucp_ep_rkey_unpack(peer.endpoint, key.data(), &peer.key), "read a UCX key");
  if (!status.ok()) {
    Disconnect(&peer);
    return status;
  }
  return &peer;
}

void UcxWorker::Disconnect(Peer* peer) {
  if (peer->key != nullptr) ucp_rkey_destroy(peer->key);
  ucp_request_param_t params = {};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  params.flags = UCP_EP_CLOSE_FLAG_FORCE;
  const ucs_status_ptr_t request = ucp_ep_close_nbx(peer->endpoint, &params);
  const auto is_it = [peer](const Peer& one) { return &one == peer; };
  const auto it = std::find_if(peers_.begin(), peers_.end(), is_it);
  if (!UCS_PTR_IS_PTR(request)) {
    peers_.erase(it);
    return;
  }
  peer->closing = request;
  closing_.splice(closing_.end(), peers_, it);
}

absl::StatusOr<UcxWorker::ReadState> UcxWorker::Read(const Peer& peer, uint64_t from, std::span<std::byte> to,
                                                     ReadDone done) {
  auto call = std::make_unique<ReadDone>(std::move(done));
  ucp_request_param_t params = {};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.user_data = call.get();
  params.cb.send = [](void* request, ucs_status_t status, void* user_data) {
    const std::unique_ptr<ReadDone> ended(static_cast<ReadDone*>(user_data));
    ucp_request_free(request);
    (*ended)(status);
  };
  const ucs_status_ptr_t request = ucp_get_nbx(peer.endpoint, to.data(), to.size(), from, peer.key, &params);
  if (request == nullptr) return ReadState::kDone;
  if (UCS_PTR_IS_ERR(request)) return UcxStatus(UCS_PTR_STATUS(request), "read by UCX");
  static_cast<void>(call.release());  // the callback's
  return ReadState::kUnderWay;
}

bool UcxWorker::Progress() {
  bool any = false;
  while (ucp_worker_progress(worker_) != 0) any = true;
  FinishClosing();
  return any;
}

void UcxWorker::FinishClosing() {
  closing_.remove_if([](const Peer& peer) {
    if (ucp_request_check_status(peer.closing) == UCS_INPROGRESS) return false;
    ucp_request_free(peer.closing);
    return true;
  });
}

void UcxWorker::Sleep(absl::Duration at_most) {
  if (ucp_worker_arm(worker_) != UCS_OK) return;  // something arrived meanwhile
  pollfd wait = {.fd = event_fd_, .events = POLLIN, .revents = 0};
  const timespec timeout = absl::ToTimespec(std::max(at_most, absl::ZeroDuration()));
  const int found = ::ppoll(&wait, 1, at_most == absl::InfiniteDuration() ? nullptr : &timeout, nullptr);
  EVENKEEL_CHECK(found >= 0 || errno == EINTR);
}

void UcxWorker::Signal() { static_cast<void>(ucp_worker_signal(worker_)); }

}  // namespace evenkeel::agent
