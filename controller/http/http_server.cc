// SPDX-License-Identifier: Apache-2.0
#include "controller/http/http_server.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <string>

#include "absl/strings/str_cat.h"

#include "algos/base/check.h"

namespace evenkeel::controller {
namespace {

struct FreeBio {
  void operator()(BIO* x) const { BIO_free(x); }
};

std::string PemOf(X509* certificate) {
  const std::unique_ptr<BIO, FreeBio> bio(BIO_new(BIO_s_mem()));
  EVENKEEL_CHECK(PEM_write_bio_X509(bio.get(), certificate) == 1);
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &bytes);  // NOLINT: as the library has it
  return {bytes, static_cast<size_t>(size)};
}

// 1: the connection goes on.
int ShowNewest(SSL* ssl, void* certificate) {
  const std::shared_ptr<const OwnCertificate::Pair> pair = static_cast<OwnCertificate*>(certificate)->Now();
  if (SSL_use_certificate(ssl, pair->chain.front().get()) != 1) return 0;
  if (SSL_use_PrivateKey(ssl, pair->key.get()) != 1) return 0;
  SSL_clear_chain_certs(ssl);
  for (size_t i = 1; i < pair->chain.size(); ++i) {
    if (SSL_add1_chain_cert(ssl, pair->chain[i].get()) != 1) return 0;
  }
  return 1;
}

bool SetUp(SSL_CTX& context, OwnCertificate* certificate, CallersShow callers) {
  SSL_CTX_set_min_proto_version(&context, TLS1_2_VERSION);
  SSL_CTX_set_cert_cb(&context, ShowNewest, certificate);
  if (callers == CallersShow::kCertificate) {
    SSL_CTX_set_verify(&context, SSL_VERIFY_PEER, [](int, X509_STORE_CTX*) { return 1; });
  }
  // A resumed connection would not bring its certificate along.
  SSL_CTX_set_session_cache_mode(&context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(&context, SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(&context, 0);
  return true;
}

}  // namespace

std::unique_ptr<httplib::Server> MakeHttpServer(OwnCertificate* certificate, CallersShow callers) {
  if (certificate == nullptr) return std::make_unique<httplib::Server>();
  return std::make_unique<httplib::SSLServer>([=](SSL_CTX& context) { return SetUp(context, certificate, callers); });
}

Gate::Credentials CredentialsOf(const httplib::Request& request) {
  Gate::Credentials credentials{.peer = absl::StrCat(request.remote_addr, ":", request.remote_port),
                                .authorization = request.get_header_value("Authorization"),
                                .certificate = {},
                                .between = {}};
  if (request.ssl == nullptr) return credentials;
  X509* certificate = SSL_get0_peer_certificate(request.ssl);
  if (certificate == nullptr) return credentials;
  credentials.certificate = PemOf(certificate);
  STACK_OF(X509)* chain = SSL_get_peer_cert_chain(request.ssl);
  for (int i = 0; chain != nullptr && i < sk_X509_num(chain); ++i)
    credentials.between += PemOf(sk_X509_value(chain, i));
  return credentials;
}

}  // namespace evenkeel::controller
