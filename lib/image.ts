// Pictures: reading, resizing, writing. The parts are under images/.
export type { ImageFormat, SaveOptions } from './images/encode.js';
export { type GridOptions, makeImageGrid } from './images/grid.js';
export { Image, type ResizeOptions } from './images/image.js';
export { type ImageSource, type LoadImageOptions, loadImage } from './images/load.js';
export type { ResizeFilter } from './images/resample.js';
