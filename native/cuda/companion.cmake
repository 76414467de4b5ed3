# The CUDA companion. nvcc is called directly: it compiles one file, and CMake's own language support
# would want a whole toolkit (and a GPU for its default architecture).
set(kernels ${CMAKE_CURRENT_BINARY_DIR}/cuda-kernels.o)
# Code for data-centre GPUs of three generations, and PTX that the driver compiles for newer ones.
set(TORCHBRUSH_CUDA_ARCHITECTURES "80;90" CACHE STRING "Compute capabilities that get code of their own")
list(GET TORCHBRUSH_CUDA_ARCHITECTURES -1 newest)
set(architectures -gencode arch=compute_${newest},code=compute_${newest})
foreach(architecture IN LISTS TORCHBRUSH_CUDA_ARCHITECTURES)
  list(APPEND architectures -gencode arch=compute_${architecture},code=sm_${architecture})
endforeach()
set(sources ${CMAKE_CURRENT_SOURCE_DIR}/native/cuda)
add_custom_command(
  OUTPUT ${kernels}
  COMMAND ${TORCHBRUSH_NVCC} -std=c++20 -O3 --expt-relaxed-constexpr -Xcompiler -fPIC,-fvisibility=hidden
          ${architectures} -isystem ${TORCHBRUSH_LIBTORCH}/include -c ${sources}/kernels.cu -o ${kernels}
  DEPENDS ${sources}/kernels.cu ${sources}/kernels.h ${sources}/start.h ${sources}/device.h
          ${sources}/elementwise.h ${sources}/group_norm.h
  VERBATIM)

get_filename_component(nvcc ${TORCHBRUSH_NVCC} REALPATH)
get_filename_component(toolkit ${nvcc} DIRECTORY)
set(places $ENV{CUDA_HOME} ${toolkit}/.. /usr/local/cuda)
find_path(TORCHBRUSH_CUDA_INCLUDE cuda_runtime.h HINTS ${places} PATH_SUFFIXES include targets/x86_64-linux/include)
find_library(TORCHBRUSH_CUDART cudart HINTS ${places} PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib)
if(NOT TORCHBRUSH_CUDA_INCLUDE OR NOT TORCHBRUSH_CUDART)
  message(FATAL_ERROR "nvcc is there, but cuda_runtime.h or libcudart is not: set CUDA_HOME, or TORCHBRUSH_CUDA=OFF.")
endif()

torchbrush_companion(cuda native/cuda/attention.cc native/cuda/recording.cc native/cuda/companion.cc ${kernels})
target_include_directories(cuda SYSTEM PRIVATE ${TORCHBRUSH_CUDA_INCLUDE})
target_link_libraries(cuda PRIVATE ${TORCHBRUSH_LIBTORCH}/lib/libtorch_cuda.so
                                   ${TORCHBRUSH_LIBTORCH}/lib/libc10_cuda.so ${TORCHBRUSH_CUDART})
