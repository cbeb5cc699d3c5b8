// SPDX-License-Identifier: Apache-2.0
#include "controller/sqlite_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "algos/base/status_macros.h"
#include "controller/convert_load_history.h"
#include "controller/convert_operation.h"
#include "proto/evenkeel/v1/control.pb.h"
#include "proto/evenkeel/v1/store.pb.h"

namespace evenkeel::controller {
namespace {

constexpr int kVersion = 1;
constexpr int kBusyTimeoutMs = 5000;  // a predecessor may still be closing

// One prepared statement, finalised at the end of its scope.
class Statement {
 public:
  Statement(sqlite3* db, const char* sql) { prepared_ = sqlite3_prepare_v2(db, sql, -1, &statement_, nullptr); }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  int prepared() const { return prepared_; }
  void Bind(int at, int64_t value) { sqlite3_bind_int64(statement_, at, value); }
  // `value` must outlive the statement.
  void Bind(int at, const std::string& value) {
    sqlite3_bind_blob64(statement_, at, value.data(), value.size(), SQLITE_STATIC);
  }
  // SQLITE_ROW, SQLITE_DONE or an error.
  int Step() { return prepared_ == SQLITE_OK ? sqlite3_step(statement_) : prepared_; }
  int64_t Integer(int column) { return sqlite3_column_int64(statement_, column); }
  std::string Blob(int column) {
    const void* data = sqlite3_column_blob(statement_, column);
    const size_t size = static_cast<size_t>(sqlite3_column_bytes(statement_, column));
    return data == nullptr ? std::string() : std::string(static_cast<const char*>(data), size);
  }

 private:
  sqlite3_stmt* statement_ = nullptr;
  int prepared_ = SQLITE_OK;
};

absl::StatusCode CodeOf(int code) {
  switch (code & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::StatusCode::kUnavailable;
    case SQLITE_FULL:
    case SQLITE_IOERR:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
      return absl::StatusCode::kPermissionDenied;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return absl::StatusCode::kDataLoss;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const Options& options) {
  sqlite3* db = nullptr;
  const std::string path = options.path.empty() ? ":memory:" : options.path;
  // SQLite's other files have the rights of this one: owner and group alone read who did what.
  if (!options.path.empty()) {
    const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0640);
    if (fd >= 0) ::close(fd);
  }
  const int code = sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  std::unique_ptr<SqliteStore> store(new SqliteStore(options, db));
  EVENKEEL_RETURN_IF_ERROR(store->StatusOf(code, "open"));
  EVENKEEL_RETURN_IF_ERROR(store->Prepare());
  return store;
}

SqliteStore::SqliteStore(const Options& options, sqlite3* db) : options_(options), db_(db) {}

SqliteStore::~SqliteStore() { sqlite3_close(db_); }

absl::Status SqliteStore::StatusOf(int code, absl::string_view doing) const {
  if (code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW) return absl::OkStatus();
  std::string message = absl::StrCat("store ", options_.path.empty() ? "in memory" : options_.path, ": ", doing, ": ",
                                     db_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(db_));
  if ((code & 0xFF) == SQLITE_BUSY) absl::StrAppend(&message, "; does another controller use it?");
  if ((code & 0xFF) == SQLITE_FULL || (code & 0xFF) == SQLITE_IOERR) {
    absl::StrAppend(&message, "; is there space left on the device?");
  }
  return absl::Status(CodeOf(code), message);
}

absl::Status SqliteStore::Execute(const char* sql, absl::string_view doing) {
  return StatusOf(sqlite3_exec(db_, sql, nullptr, nullptr, nullptr), doing);
}

absl::Status SqliteStore::Prepare() {
  sqlite3_busy_timeout(db_, kBusyTimeoutMs);
  EVENKEEL_RETURN_IF_ERROR(Execute("PRAGMA locking_mode=EXCLUSIVE", "lock"));
  EVENKEEL_RETURN_IF_ERROR(Execute("PRAGMA journal_mode=WAL", "prepare"));
  EVENKEEL_RETURN_IF_ERROR(Execute("PRAGMA synchronous=NORMAL", "prepare"));
  int64_t version = 0;
  {
    Statement statement(db_, "PRAGMA user_version");
    EVENKEEL_RETURN_IF_ERROR(StatusOf(statement.Step(), "read the version"));
    version = statement.Integer(0);
  }
  if (version > kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("store ", options_.path, ": it is of version ", version, ", this program knows up to ", kVersion));
  }
  // The last statement writes whenever the file is opened: where nothing can be written, the start ends here.
  return Execute(
      "BEGIN IMMEDIATE;"
      "PRAGMA user_version=1;"
      "CREATE TABLE IF NOT EXISTS numbers(name TEXT PRIMARY KEY, value INTEGER NOT NULL);"
      "CREATE TABLE IF NOT EXISTS operations(id BLOB PRIMARY KEY, changed_unix_us INTEGER NOT NULL,"
      "                                      operation BLOB NOT NULL);"
      "CREATE INDEX IF NOT EXISTS operations_by_change ON operations(changed_unix_us);"
      "CREATE TABLE IF NOT EXISTS loads(group_name BLOB, end_unix_us INTEGER, load BLOB NOT NULL,"
      "                                 PRIMARY KEY(group_name, end_unix_us));"
      "INSERT INTO numbers VALUES('openings', 1) ON CONFLICT(name) DO UPDATE SET value = value + 1;"
      "COMMIT",
      "prepare");
}

absl::StatusOr<uint32_t> SqliteStore::LoadTerm() {
  Statement statement(db_, "SELECT value FROM numbers WHERE name = 'term'");
  const int code = statement.Step();
  EVENKEEL_RETURN_IF_ERROR(StatusOf(code, "load the term"));
  if (code == SQLITE_DONE) return uint32_t{0};
  const int64_t term = statement.Integer(0);
  if (term < 0 || term >= int64_t{UINT32_MAX}) {
    return absl::DataLossError(
        absl::StrCat("store ", options_.path, ": its term is ", term, ": 0 to ", UINT32_MAX - 1, " wanted"));
  }
  return static_cast<uint32_t>(term);
}

absl::Status SqliteStore::SaveTerm(uint32_t term) {
  const std::string doing = absl::StrCat("save term ", term);
  // The one thing that must survive the machine (protocol, rule 3).
  EVENKEEL_RETURN_IF_ERROR(Execute("PRAGMA synchronous=FULL", doing));
  Statement statement(db_,
                      "INSERT INTO numbers VALUES('term', ?) ON CONFLICT(name) DO UPDATE SET value = excluded.value "
                      "WHERE excluded.value > value");
  statement.Bind(1, int64_t{term});
  const absl::Status saved = StatusOf(statement.Step(), doing);
  EVENKEEL_RETURN_IF_ERROR(Execute("PRAGMA synchronous=NORMAL", doing));
  return saved;
}

absl::Status SqliteStore::SaveOperation(const OperationProgress& operation) {
  v1::Operation message;
  ToProto(operation, IsFinal(operation.state) ? Decisions::kIncluded : Decisions::kLeftOut, &message);
  const std::string bytes = message.SerializeAsString();
  {
    Statement statement(db_, "INSERT OR REPLACE INTO operations VALUES(?, ?, ?)");
    statement.Bind(1, operation.id);
    // What has not ended is kept whatever comes after it: pauses and pins may stand for long.
    statement.Bind(2, IsFinal(operation.state) ? message.changed_unix_us() : INT64_MAX);
    statement.Bind(3, bytes);
    EVENKEEL_RETURN_IF_ERROR(StatusOf(statement.Step(), absl::StrCat("save operation ", operation.id)));
  }
  if (++num_saved_since_trim_ <= options_.num_operations_kept / 10) return absl::OkStatus();
  num_saved_since_trim_ = 0;
  return Trim();
}

absl::Status SqliteStore::Trim() {
  Statement statement(db_,
                      "DELETE FROM operations WHERE id IN "
                      "(SELECT id FROM operations ORDER BY changed_unix_us DESC, id LIMIT -1 OFFSET ?)");
  statement.Bind(1, int64_t{options_.num_operations_kept});
  return StatusOf(statement.Step(), "remove old operations");
}

absl::StatusOr<std::vector<OperationProgress>> SqliteStore::LoadOperations() {
  Statement statement(db_, "SELECT operation FROM operations ORDER BY changed_unix_us DESC, id LIMIT ?");
  statement.Bind(1, int64_t{options_.num_operations_kept});
  std::vector<OperationProgress> operations;
  while (true) {
    const int code = statement.Step();
    EVENKEEL_RETURN_IF_ERROR(StatusOf(code, "load operations"));
    if (code == SQLITE_DONE) break;
    v1::Operation message;
    if (!message.ParseFromString(statement.Blob(0))) {
      return absl::DataLossError(
          absl::StrCat("store ", options_.path, ": operation ", operations.size(), " of the newest cannot be read"));
    }
    operations.push_back(OperationOf(message));
  }
  std::ranges::stable_sort(operations, std::greater(), &OperationProgress::changed);
  return operations;
}

absl::Status SqliteStore::SaveLoad(const LoadHistory& load) {
  if (load.windows.empty()) return absl::OkStatus();
  const std::string doing = absl::StrCat("save the load of group ", load.group);
  v1::LoadHistory message;
  ToProto(load, &message);
  const std::string bytes = message.SerializeAsString();
  const absl::Time end = load.windows.back().span.to;
  {
    Statement statement(db_, "INSERT OR REPLACE INTO loads VALUES(?, ?, ?)");
    statement.Bind(1, load.group);
    statement.Bind(2, absl::ToUnixMicros(end));
    statement.Bind(3, bytes);
    EVENKEEL_RETURN_IF_ERROR(StatusOf(statement.Step(), doing));
  }
  Statement statement(db_, "DELETE FROM loads WHERE group_name = ? AND end_unix_us < ?");
  statement.Bind(1, load.group);
  statement.Bind(2, absl::ToUnixMicros(end - load.kept_for));
  return StatusOf(statement.Step(), doing);
}

absl::StatusOr<std::vector<LoadHistory>> SqliteStore::LoadLoads() {
  EVENKEEL_RETURN_IF_ERROR(
      Execute("DELETE FROM loads WHERE group_name IN (SELECT group_name FROM loads GROUP BY group_name HAVING"
              " MAX(end_unix_us) < (SELECT MAX(end_unix_us) FROM loads) - 86400000000)",
              "remove old loads"));
  Statement statement(db_, "SELECT load FROM loads ORDER BY group_name, end_unix_us");
  std::vector<LoadHistory> loads;
  while (true) {
    const int code = statement.Step();
    EVENKEEL_RETURN_IF_ERROR(StatusOf(code, "load what was counted"));
    if (code == SQLITE_DONE) return loads;
    v1::LoadHistory message;
    if (!message.ParseFromString(statement.Blob(0))) continue;
    absl::StatusOr<LoadHistory> load = LoadHistoryOf(message);
    if (load.ok()) loads.push_back(*std::move(load));
  }
}

}  // namespace evenkeel::controller
