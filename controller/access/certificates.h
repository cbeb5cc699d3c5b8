// SPDX-License-Identifier: Apache-2.0
//
// Certificates: the controller's own, and whose it trusts, in files that may be replaced while it runs.
//
// A file is read again when it has changed; while what it then holds is of no use, what was last of use stays in force, and
// the log says so once.
//
// Threads:   any.
// Errors:    kNotFound: a file cannot be read; kInvalidArgument: it holds no certificate, or the key is another's. The
//            message begins with the name of the setting.
#pragma once

#include <openssl/x509.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "controller/access/access.h"

namespace evenkeel::controller {

struct FreeX509 {
  void operator()(X509* x) const { X509_free(x); }
  void operator()(EVP_PKEY* x) const { EVP_PKEY_free(x); }
  void operator()(X509_STORE* x) const { X509_STORE_free(x); }
};
using X509Ptr = std::unique_ptr<X509, FreeX509>;
using KeyPtr = std::unique_ptr<EVP_PKEY, FreeX509>;
using StorePtr = std::unique_ptr<X509_STORE, FreeX509>;

// A file as it was when it was last looked at.
struct FileStamp {
  int64_t changed_ns = -1, inode = -1, bytes = -1;

  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};
FileStamp StampOf(const std::string& path);

// What the controller shows to those who connect.
class OwnCertificate {
 public:
  struct Pair {
    std::vector<X509Ptr> chain;  // its own first
    KeyPtr key;
  };

  static absl::StatusOr<std::unique_ptr<OwnCertificate>> Open(std::string certificate_path, std::string key_path);
  std::shared_ptr<const Pair> Now();

 private:
  OwnCertificate(std::string certificate_path, std::string key_path)
      : certificate_path_(std::move(certificate_path)), key_path_(std::move(key_path)) {}
  absl::StatusOr<std::shared_ptr<const Pair>> Read() const;

  const std::string certificate_path_, key_path_;
  absl::Mutex mutex_;
  FileStamp certificate_stamp_ ABSL_GUARDED_BY(mutex_), key_stamp_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const Pair> pair_ ABSL_GUARDED_BY(mutex_);
};

// Whether certificates that callers show are of the authorities in a file, and what they grant.
class CallerCertificates {
 public:
  struct Checked {
    Judgement verdict;
    Caller caller;  // where the verdict has no refusal
  };

  static absl::StatusOr<std::unique_ptr<CallerCertificates>> Open(std::string authorities_path);
  // `leaf`, and the certificates between it and an authority, in PEM form. Looked at anew after kCheckedFor.
  Checked Check(const std::string& leaf, const std::string& between);

  static constexpr absl::Duration kCheckedFor = absl::Seconds(5);
  static constexpr size_t kCheckedMax = 4096;

 private:
  explicit CallerCertificates(std::string path) : path_(std::move(path)) {}
  absl::StatusOr<StorePtr> Read() const;
  void LookAgain() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Checked CheckNow(const std::string& leaf, const std::string& between) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  absl::Mutex mutex_;
  FileStamp stamp_ ABSL_GUARDED_BY(mutex_);
  StorePtr authorities_ ABSL_GUARDED_BY(mutex_);
  absl::btree_map<std::string, std::pair<absl::Time, Checked>> checked_ ABSL_GUARDED_BY(mutex_);  // by digest
};

}  // namespace evenkeel::controller
