// SPDX-License-Identifier: Apache-2.0
#include "agent/ucx_worker.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "spdlog/spdlog.h"

#include "agent/ucx_greeting.h"
#include "algos/base/check.h"
#include "algos/base/status_macros.h"
#include "runtime/clock.h"
#include "runtime/token.h"

namespace evenkeel::agent {

namespace {

using runtime::MonotonicNow;

constexpr absl::Duration kCloseAtMost = absl::Seconds(1);

struct ConfigRelease {
  void operator()(ucp_config_t* config) const { ucp_config_release(config); }
};

// Of active messages, between agents of one version of UcxAddress.
constexpr unsigned kHello = 1;
constexpr unsigned kAnswer = 2;

constexpr uint64_t kRefusalsLogged = 100;

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
  worker->secret_ = options.secret;
  EVENKEEL_RETURN_IF_ERROR(worker->Listen());
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
  params.features = UCP_FEATURE_RMA | UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
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
  memory_begin_ = reinterpret_cast<uint64_t>(memory.data());
  ucp_rkey_buffer_release(key);
  return absl::OkStatus();
}

absl::Status UcxWorker::Listen() {
  const std::pair<unsigned, ucp_am_recv_callback_t> heard[] = {{kHello, &UcxWorker::HearHello},
                                                               {kAnswer, &UcxWorker::HearAnswer}};
  for (const auto& [id, callback] : heard) {
    ucp_am_handler_param_t params = {};
    params.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                        UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
    params.id = id;
    params.flags = UCP_AM_FLAG_WHOLE_MSG;
    params.cb = callback;
    params.arg = this;
    EVENKEEL_RETURN_IF_ERROR(UcxStatus(ucp_worker_set_am_recv_handler(worker_, &params), "listen by UCX"));
  }
  return absl::OkStatus();
}

absl::Status UcxWorker::Say(ucp_ep_h endpoint, unsigned id, uint32_t flags, std::string bytes) {
  auto held = std::make_unique<std::string>(std::move(bytes));
  ucp_request_param_t params = {};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  params.flags = flags | UCP_AM_SEND_FLAG_EAGER;
  params.user_data = held.get();
  params.cb.send = [](void* request, ucs_status_t, void* sent) {
    delete static_cast<std::string*>(sent);
    ucp_request_free(request);
  };
  const ucs_status_ptr_t request = ucp_am_send_nbx(endpoint, id, nullptr, 0, held->data(), held->size(), &params);
  if (UCS_PTR_IS_ERR(request)) return UcxStatus(UCS_PTR_STATUS(request), "greet by UCX");
  if (request != nullptr) static_cast<void>(held.release());  // the callback's
  return absl::OkStatus();
}

absl::Status UcxWorker::Greet(Peer& peer, const runtime::ReadPass& pass, const Member& reader) {
  uint64_t nonce = 0;
  std::memcpy(&nonce, runtime::RandomBytes(sizeof(nonce)).data(), sizeof(nonce));
  greetings_[nonce] = {&peer, pass};
  return Say(peer.endpoint, kHello, UCP_AM_SEND_FLAG_REPLY, MakeHello(pass, nonce, reader));
}

ucs_status_t UcxWorker::HearHello(void* worker, const void*, size_t, void* data, size_t bytes,
                                  const ucp_am_recv_param_t* param) {
  UcxWorker& self = *static_cast<UcxWorker*>(worker);
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) == 0 ||
      (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) {
    return UCS_OK;  // nobody of ours: dropped
  }
  const std::optional<UcxAnswer> answer =
      AnswerHello({static_cast<const char*>(data), bytes}, self.secret_, {self.key_, self.memory_begin_});
  if (!answer.has_value()) return UCS_OK;
  // Whoever asks again and again does not fill the disk.
  if (!answer->granted && ++self.num_refused_ <= kRefusalsLogged) {
    spdlog::warn("a reader that says it is rank {} incarnation {:x} shows no pass for rollout {}: refused",
                 answer->reader.rank.value(), answer->reader.incarnation, answer->rollout);
  }
  // Where it cannot be said the reader's own deadline ends its wait.
  static_cast<void>(Say(param->reply_ep, kAnswer, 0, answer->bytes));
  return UCS_OK;
}

ucs_status_t UcxWorker::HearAnswer(void* worker, const void*, size_t, void* data, size_t bytes,
                                   const ucp_am_recv_param_t* param) {
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) return UCS_OK;
  static_cast<UcxWorker*>(worker)->TakeAnswer({static_cast<const char*>(data), bytes});
  return UCS_OK;
}

void UcxWorker::TakeAnswer(absl::string_view answer) {
  const auto found = greetings_.find(NonceOf(answer));
  if (found == greetings_.end()) return;
  const Greeting greeting = std::move(found->second);
  greetings_.erase(found);
  const std::optional<UcxGrant> grant = ReadAnswer(answer, greeting.pass);
  Peer& peer = *greeting.peer;
  peer.refused = !grant.has_value() || ucp_ep_rkey_unpack(peer.endpoint, grant->key.data(), &peer.key) != UCS_OK;
  if (peer.refused) return;
  peer.memory_begin = grant->memory_begin;
  peer.granted = true;
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

absl::StatusOr<UcxWorker::Peer*> UcxWorker::Connect(const std::string& address, const runtime::ReadPass& pass,
                                                    const Member& reader) {
  Peer& peer = peers_.emplace_back();
  ucp_ep_params_t params = {};
  params.field_mask =
      UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(address.data());
  params.err_mode = tries_uncut_first_ ? UCP_ERR_HANDLING_MODE_NONE : UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.arg = &peer;
  params.err_handler.cb = [](void* arg, ucp_ep_h, ucs_status_t status) { static_cast<Peer*>(arg)->failure = status; };
  ucs_status_t connected = ucp_ep_create(worker_, &params, &peer.endpoint);
  if (connected == UCS_ERR_UNREACHABLE && !tries_uncut_first_) {  // shared memory alone: it has no failure handler
    params.err_mode = UCP_ERR_HANDLING_MODE_NONE;
    connected = ucp_ep_create(worker_, &params, &peer.endpoint);
    tries_uncut_first_ = connected == UCS_OK;
  }
  peer.can_be_cut = params.err_mode == UCP_ERR_HANDLING_MODE_PEER;
  absl::Status status = UcxStatus(connected, "connect by UCX");
  if (!status.ok()) {
    peers_.pop_back();
    return status;
  }
  status = Greet(peer, pass, reader);
  if (!status.ok()) {
    Disconnect(&peer);
    return status;
  }
  return &peer;
}

void UcxWorker::Disconnect(Peer* peer) {
  absl::erase_if(greetings_, [peer](const auto& greeting) { return greeting.second.peer == peer; });
  if (!peer->can_be_cut) {
    std::vector<ReadDone> ended;
    for (auto& [number, call] : calls_) {
      if (call->peer != peer) continue;
      call->peer = nullptr;
      ended.push_back(std::move(call->done));
    }
    for (const ReadDone& done : ended) done(UCS_ERR_CANCELED);
  }
  // Reads that cannot be cut may still look at the key; it then goes with the endpoint.
  if (peer->key != nullptr && peer->can_be_cut) ucp_rkey_destroy(std::exchange(peer->key, nullptr));
  ucp_request_param_t params = {};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  params.flags = peer->can_be_cut ? UCP_EP_CLOSE_FLAG_FORCE : 0;
  const ucs_status_ptr_t request = ucp_ep_close_nbx(peer->endpoint, &params);
  const auto is_it = [peer](const Peer& one) { return &one == peer; };
  const auto it = std::find_if(peers_.begin(), peers_.end(), is_it);
  if (!UCS_PTR_IS_PTR(request)) {
    if (peer->key != nullptr) ucp_rkey_destroy(peer->key);
    peers_.erase(it);
    return;
  }
  peer->closing = request;
  closing_.splice(closing_.end(), peers_, it);
}

absl::StatusOr<UcxWorker::ReadState> UcxWorker::Read(const Peer& peer, uint64_t from, std::span<std::byte> to,
                                                     ReadDone done) {
  auto call = std::make_unique<Call>();
  call->worker = this;
  call->number = ++num_calls_;
  call->peer = &peer;
  call->done = std::move(done);
  call->to = to;
  if (!peer.can_be_cut) call->bounce.resize(to.size());
  std::byte* arrives = peer.can_be_cut ? to.data() : call->bounce.data();
  ucp_request_param_t params = {};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.user_data = call.get();
  params.cb.send = &UcxWorker::EndCall;
  const ucs_status_ptr_t request =
      ucp_get_nbx(peer.endpoint, arrives, to.size(), peer.memory_begin + from, peer.key, &params);
  if (UCS_PTR_IS_ERR(request)) return UcxStatus(UCS_PTR_STATUS(request), "read by UCX");
  if (request == nullptr) {
    if (!peer.can_be_cut) std::copy(call->bounce.begin(), call->bounce.end(), to.begin());
    return ReadState::kDone;
  }
  const uint64_t number = call->number;
  calls_.emplace(number, std::move(call));
  return ReadState::kUnderWay;
}

void UcxWorker::EndCall(void* request, ucs_status_t status, void* user_data) {
  ucp_request_free(request);
  auto* ended = static_cast<Call*>(user_data);
  const auto it = ended->worker->calls_.find(ended->number);
  const std::unique_ptr<Call> call = std::move(it->second);
  ended->worker->calls_.erase(it);
  if (call->peer == nullptr) return;
  if (status == UCS_OK) std::copy(call->bounce.begin(), call->bounce.end(), call->to.begin());
  call->done(status);
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
    if (peer.key != nullptr) ucp_rkey_destroy(peer.key);
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
