// SPDX-License-Identifier: Apache-2.0
#include "controller/access/certificates.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "runtime/clock.h"
#include "runtime/token.h"

namespace evenkeel::controller {
namespace {

struct FreeBio {
  void operator()(BIO* x) const { BIO_free(x); }
};
struct FreeStack {
  void operator()(STACK_OF(X509) * x) const { sk_X509_free(x); }
};
struct FreeContext {
  void operator()(X509_STORE_CTX* x) const { X509_STORE_CTX_free(x); }
};
struct FreeNames {
  void operator()(GENERAL_NAMES* x) const { GENERAL_NAMES_free(x); }
};

absl::StatusOr<std::string> ReadPem(absl::string_view setting, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string pem{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file || pem.empty()) return absl::NotFoundError(absl::StrCat(setting, ": cannot read ", path));
  return pem;
}

std::vector<X509Ptr> CertificatesIn(const std::string& pem) {
  std::vector<X509Ptr> certificates;
  const std::unique_ptr<BIO, FreeBio> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  while (X509* one = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) certificates.emplace_back(one);
  ERR_clear_error();  // the end is told as an error
  return certificates;
}

std::string TextOf(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<size_t>(ASN1_STRING_length(string))};
}

std::string CommonName(X509& certificate) {
  X509_NAME* subject = X509_get_subject_name(&certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return {};
  return TextOf(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
}

std::vector<std::string> Uris(X509& certificate) {
  std::vector<std::string> uris;
  const std::unique_ptr<GENERAL_NAMES, FreeNames> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_URI) uris.push_back(TextOf(name->d.uniformResourceIdentifier));
  }
  return uris;
}

// URIs go before the common name, which counts where there are none of ours.
Caller CallerOf(X509& certificate) {
  Caller caller;
  std::vector<std::string> names;
  for (std::string& uri : Uris(certificate)) {
    if (absl::StartsWith(uri, "evenkeel://")) names.push_back(std::move(uri));
  }
  const std::string common = CommonName(certificate);
  if (names.empty()) names.push_back(common);
  for (const std::string& name : names) {
    absl::StatusOr<Grant> grant = ParseGrant(name);
    if (grant.ok()) caller.grants.push_back(*std::move(grant));
  }
  caller.name = common.empty() ? names.front() : common;
  for (char& c : caller.name) {
    if (c < 0x20 || c >= 0x7F) c = '?';
  }
  return caller;
}

}  // namespace

FileStamp StampOf(const std::string& path) {
  struct stat found = {};
  if (::stat(path.c_str(), &found) != 0) return {};
  return {int64_t{found.st_mtim.tv_sec} * 1'000'000'000 + found.st_mtim.tv_nsec, static_cast<int64_t>(found.st_ino),
          found.st_size};
}

// ---- OwnCertificate

absl::StatusOr<std::unique_ptr<OwnCertificate>> OwnCertificate::Open(std::string certificate_path,
                                                                     std::string key_path) {
  std::unique_ptr<OwnCertificate> own(new OwnCertificate(std::move(certificate_path), std::move(key_path)));
  absl::MutexLock lock(&own->mutex_);
  own->certificate_stamp_ = StampOf(own->certificate_path_);
  own->key_stamp_ = StampOf(own->key_path_);
  EVENKEEL_ASSIGN_OR_RETURN(own->pair_, own->Read());
  return own;
}

absl::StatusOr<std::shared_ptr<const OwnCertificate::Pair>> OwnCertificate::Read() const {
  EVENKEEL_ASSIGN_OR_RETURN(const std::string certificate, ReadPem("tls_certificate", certificate_path_));
  EVENKEEL_ASSIGN_OR_RETURN(const std::string key, ReadPem("tls_key", key_path_));
  auto pair = std::make_shared<Pair>();
  pair->chain = CertificatesIn(certificate);
  if (pair->chain.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("tls_certificate: no certificate in ", certificate_path_));
  }
  const std::unique_ptr<BIO, FreeBio> bio(BIO_new_mem_buf(key.data(), static_cast<int>(key.size())));
  // A key under a passphrase is of no use to a daemon: it is not asked for.
  const auto no_passphrase = [](char*, int, int, void*) { return -1; };
  pair->key.reset(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
  const bool fits = pair->key != nullptr && X509_check_private_key(pair->chain.front().get(), pair->key.get()) == 1;
  ERR_clear_error();
  if (pair->key == nullptr) return absl::InvalidArgumentError(absl::StrCat("tls_key: no private key in ", key_path_));
  if (!fits) {
    return absl::InvalidArgumentError(
        absl::StrCat("tls_key: ", key_path_, " is not the key of the certificate in ", certificate_path_));
  }
  return pair;
}

std::shared_ptr<const OwnCertificate::Pair> OwnCertificate::Now() {
  absl::MutexLock lock(&mutex_);
  const FileStamp certificate = StampOf(certificate_path_), key = StampOf(key_path_);
  if (certificate != certificate_stamp_ || key != key_stamp_) {
    certificate_stamp_ = certificate;
    key_stamp_ = key;
    if (absl::StatusOr<std::shared_ptr<const Pair>> read = Read(); read.ok()) {
      pair_ = *std::move(read);
      spdlog::info("certificate read anew from {}", certificate_path_);
    } else {
      spdlog::warn("the certificate stays as it was: {}", std::string(read.status().message()));
    }
  }
  return pair_;
}

// ---- CallerCertificates

absl::StatusOr<std::unique_ptr<CallerCertificates>> CallerCertificates::Open(std::string authorities_path) {
  std::unique_ptr<CallerCertificates> callers(new CallerCertificates(std::move(authorities_path)));
  absl::MutexLock lock(&callers->mutex_);
  callers->stamp_ = StampOf(callers->path_);
  EVENKEEL_ASSIGN_OR_RETURN(callers->authorities_, callers->Read());
  return callers;
}

absl::StatusOr<StorePtr> CallerCertificates::Read() const {
  EVENKEEL_ASSIGN_OR_RETURN(const std::string pem, ReadPem("tls_client_ca", path_));
  const std::vector<X509Ptr> authorities = CertificatesIn(pem);
  if (authorities.empty()) return absl::InvalidArgumentError(absl::StrCat("tls_client_ca: no certificate in ", path_));
  StorePtr store(X509_STORE_new());
  for (const X509Ptr& one : authorities) X509_STORE_add_cert(store.get(), one.get());
  ERR_clear_error();
  return store;
}

void CallerCertificates::LookAgain() {
  const FileStamp stamp = StampOf(path_);
  if (stamp == stamp_) return;
  stamp_ = stamp;
  if (absl::StatusOr<StorePtr> read = Read(); read.ok()) {
    authorities_ = *std::move(read);
    checked_.clear();
    spdlog::info("authorities read anew from {}", path_);
  } else {
    spdlog::warn("the authorities stay as they were: {}", std::string(read.status().message()));
  }
}

CallerCertificates::Checked CallerCertificates::Check(const std::string& leaf, const std::string& between) {
  const std::string digest = runtime::Sha256(absl::StrCat(leaf, "\n", between));
  const absl::Time now = runtime::MonotonicNow();
  absl::MutexLock lock(&mutex_);
  LookAgain();
  const auto found = checked_.find(digest);
  if (found != checked_.end() && now < found->second.first) return found->second.second;
  if (checked_.size() >= kCheckedMax) checked_.clear();
  Checked checked = CheckNow(leaf, between);
  checked_[digest] = {now + kCheckedFor, checked};
  return checked;
}

CallerCertificates::Checked CallerCertificates::CheckNow(const std::string& leaf, const std::string& between) {
  const auto refused = [](Refusal refusal, std::string why) { return Checked{{refusal, std::move(why)}, {}}; };
  const std::vector<X509Ptr> certificate = CertificatesIn(leaf);
  if (certificate.empty()) return refused(Refusal::kUntrustedCertificate, "the certificate cannot be read");
  const std::vector<X509Ptr> others = CertificatesIn(between);
  const std::unique_ptr<STACK_OF(X509), FreeStack> chain(sk_X509_new_null());
  for (const X509Ptr& one : others) sk_X509_push(chain.get(), one.get());
  const std::unique_ptr<X509_STORE_CTX, FreeContext> context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), authorities_.get(), certificate.front().get(), chain.get());
  X509_STORE_CTX_set_default(context.get(), "ssl_client");
  const bool trusted = X509_verify_cert(context.get()) == 1;
  const int error = X509_STORE_CTX_get_error(context.get());
  ERR_clear_error();
  Caller caller = CallerOf(*certificate.front());
  if (!trusted) {
    const bool expired = error == X509_V_ERR_CERT_HAS_EXPIRED;
    return refused(expired ? Refusal::kExpiredCertificate : Refusal::kUntrustedCertificate,
                   absl::StrCat("the certificate of '", caller.name, "': ", X509_verify_cert_error_string(error)));
  }
  if (caller.grants.empty()) {
    return refused(Refusal::kNoRole, absl::StrCat("the certificate of '", caller.name,
                                                  "' names no role: a URI evenkeel://operator, evenkeel://viewer or "
                                                  "evenkeel://group/G/rank/R wanted"));
  }
  return {{}, std::move(caller)};
}

}  // namespace evenkeel::controller
