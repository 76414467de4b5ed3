#include "open.h"

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>
#include <string>

namespace torchbrush {
namespace {

const Companion* OpenLibrary(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return nullptr;
  const auto symbol = reinterpret_cast<CompanionSymbol>(dlsym(library, kCompanionSymbol));
  const Companion* companion = symbol == nullptr ? nullptr : symbol();
  return companion != nullptr && companion->version == Companion::kVersion ? companion : nullptr;
}

// torchbrush-core-X.Y.so → torchbrush-cuda-X.Y.so, in the core's folder.
std::string PathBesideCore() {
  Dl_info self{};
  dladdr(reinterpret_cast<void*>(&OpenLibrary), &self);
  std::string path = self.dli_fname;
  const std::string core = "torchbrush-core-";
  const size_t at = path.rfind(core);
  return at == std::string::npos ? "" : path.replace(at, core.size(), "torchbrush-cuda-");
}

}  // namespace

const Companion* CompanionOf(c10::Device device) {
  static std::once_flag once;
  static const Companion* companion = nullptr;
  // The tests name one that works on the CPU, so that what is rewritten can be tried without a GPU.
  const char* named = getenv("TORCHBRUSH_COMPANION");
  if (!device.is_cuda() && named == nullptr) return nullptr;
  std::call_once(once, [named] { companion = OpenLibrary(named == nullptr ? PathBesideCore() : named); });
  if (companion == nullptr || companion->device != device.type()) return nullptr;
  return companion->capability(device) >= Companion::kLeastCapability ? companion : nullptr;
}

}  // namespace torchbrush
