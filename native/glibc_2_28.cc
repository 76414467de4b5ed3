// What libstdc++ 11 has compiled since C++20, and the one of glibc 2.28's time has not: compiled here.
#include <sstream>

template std::string std::stringbuf::str() const&;
