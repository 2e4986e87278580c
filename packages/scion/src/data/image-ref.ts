/** Pictures that lie on the disk, as files or in rows of Parquet files, each named once. */
import { readBytes } from '../formats/files.js';
import { maxFileBytes } from './image-decode.js';
import { readParquetImage } from './parquet-image.js';

/** A picture of a data set; the same picture of several questions is the same object. */
export interface ImageRef {
  /** The file, which for a row of a Parquet file holds others too. */
  readonly path: string;
  /** Where in a Parquet file the bytes are. */
  readonly cell?: ParquetCell;
}

/** A value in a Parquet file. */
export interface ParquetCell {
  /** A column of bytes, or of `{bytes, path}` as Hugging Face's datasets write it. */
  readonly column: string;
  /** From 0 on, over all row groups. */
  readonly row: number;
}

/** What messages call a picture. */
export const nameOfImage = ({ path, cell }: ImageRef): string => (cell ? `${path}: row ${cell.row}` : path);

/** The bytes of a picture's file or cell. @throws ScionError that names it */
export function readImage(image: ImageRef): Promise<Uint8Array> {
  return image.cell ? readParquetImage(image.path, image.cell) : readBytes(image.path, maxFileBytes);
}
