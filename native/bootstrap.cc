// The part that node-gyp-build loads. It knows nothing of torch: it opens the libtorch it is told
// of, reads its version, and opens the core that was built for that minor version.
#include <dlfcn.h>
#include <napi.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace {

Napi::Error Failure(Napi::Env env, const std::string& code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

void* Open(Napi::Env env, const std::string& path, const std::string& code) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw Failure(env, code, reason == nullptr ? path + " could not be opened." : reason);
  }
  return library;
}

std::string OwnFolder() {
  Dl_info self{};
  dladdr(reinterpret_cast<void*>(&OwnFolder), &self);
  const std::string path = self.dli_fname;
  return path.substr(0, path.rfind('/'));
}

// openLibtorch(folder, withCuda): opens the libraries and returns the version, "2.13.0".
Napi::Value OpenLibtorch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string folder = info[0].As<Napi::String>();
  // Without a bound, OpenMP's barriers spin and starve every other process of the machine. Read
  // when libgomp is opened; what the user has set stands.
  if (getenv("OMP_WAIT_POLICY") == nullptr) setenv("GOMP_SPINCOUNT", "1000", 0);
  Open(env, folder + "/libc10.so", "ERR_LIBTORCH_NOT_FOUND");
  void* cpu = Open(env, folder + "/libtorch_cpu.so", "ERR_LIBTORCH_NOT_FOUND");
  if (info[1].ToBoolean().Value()) Open(env, folder + "/libtorch_cuda.so", "ERR_LIBTORCH_NOT_FOUND");
  auto read = reinterpret_cast<uint64_t (*)()>(dlsym(cpu, "aoti_torch_abi_version"));
  if (read == nullptr) {
    throw Failure(env, "ERR_LIBTORCH_VERSION", "The libtorch in " + folder + " tells no version.");
  }
  const uint64_t packed = read();
  const auto part = [packed](int shift) { return std::to_string((packed >> shift) & 0xff); };
  return Napi::String::New(env, part(56) + "." + part(48) + "." + part(40));
}

// loadCore(path): opens the core library and returns its exports for this environment.
Napi::Value LoadCore(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  void* core = Open(env, info[0].As<Napi::String>(), "ERR_LIBTORCH_VERSION");
  auto init = reinterpret_cast<napi_value (*)(napi_env)>(dlsym(core, "torchbrush_core_init"));
  if (init == nullptr) throw Failure(env, "ERR_LIBTORCH_VERSION", "The core library has no entry point.");
  napi_value exports = init(env);
  if (exports == nullptr) throw Napi::Error::New(env);
  return Napi::Value(env, exports);
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("folder", OwnFolder());
  exports.Set("openLibtorch", Napi::Function::New(env, OpenLibtorch));
  exports.Set("loadCore", Napi::Function::New(env, LoadCore));
  return exports;
}

}  // namespace

NODE_API_MODULE(torchbrush, Init)
