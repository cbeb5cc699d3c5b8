// SPDX-License-Identifier: Apache-2.0
//
// HeatMap: a matrix as an image, a pixel block a cell, with a cursor for mouse and keyboard.
//
// Shades go with the square root of a cell over the largest of its row, as in `keelctl show`. The cell under the cursor is
// told in words below the image.

import { element, short } from "./text";
import { pixels } from "./colours";

export interface Matrix { rows: number; columns: number; values: Float64Array }

export class HeatMap {
  private readonly canvas = element("canvas", { tabindex: "0", role: "application" });
  private readonly told = element("output");
  private matrix: Matrix = { rows: 0, columns: 0, values: new Float64Array() };
  private row = 0;
  private column = 0;
  private chosen = -1;

  constructor(parent: HTMLElement, private readonly what: string, private readonly choose: (row: number) => void) {
    this.canvas.setAttribute("aria-label", `${what} by layer: arrow keys move, Enter chooses a layer`);
    parent.append(this.canvas, this.told);
    this.canvas.addEventListener("pointermove", (event) => this.moveTo(...this.cellAt(event)));
    this.canvas.addEventListener("click", (event) => { this.moveTo(...this.cellAt(event)); this.choose(this.row); });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  show(matrix: Matrix, chosen: number): void {
    this.matrix = matrix;
    this.chosen = chosen;
    this.row = Math.min(this.row, Math.max(matrix.rows - 1, 0));
    this.column = Math.min(this.column, Math.max(matrix.columns - 1, 0));
    this.draw();
    this.tell();
  }

  private draw(): void {
    const { rows, columns, values } = this.matrix;
    if (rows === 0 || columns === 0) return;
    this.canvas.dataset.rows = String(rows);
    this.canvas.dataset.columns = String(columns);
    const cell = Math.max(2, Math.min(12, Math.floor(900 / columns)));
    const height = Math.max(4, Math.min(12, cell));
    this.canvas.width = columns * cell;
    this.canvas.height = rows * height;
    const image = new ImageData(this.canvas.width, this.canvas.height);
    const target = new Uint32Array(image.data.buffer);
    for (let r = 0; r < rows; ++r) {
      let largest = 0;
      for (let c = 0; c < columns; ++c) largest = Math.max(largest, values[r * columns + c]!);
      const line = target.subarray(r * height * this.canvas.width, (r * height + 1) * this.canvas.width);
      for (let c = 0; c < columns; ++c) {
        const shade = largest === 0 ? 0 : Math.round(255 * Math.sqrt(values[r * columns + c]! / largest));
        line.fill(pixels[shade]!, c * cell, (c + 1) * cell);
      }
      for (let y = 1; y < height; ++y) target.copyWithin((r * height + y) * this.canvas.width, r * height * this.canvas.width, (r * height + 1) * this.canvas.width);
    }
    const context = this.canvas.getContext("2d")!;
    context.putImageData(image, 0, 0);
    context.lineWidth = 2;
    if (this.chosen >= 0) {
      context.strokeStyle = "#d1005d";
      context.strokeRect(1, this.chosen * height + 1, this.canvas.width - 2, height - 2);
    }
    if (document.activeElement === this.canvas) {
      context.strokeStyle = "#000";
      context.strokeRect(this.column * cell, this.row * height, cell, height);
    }
  }

  private cellAt(event: MouseEvent): [number, number] {
    const box = this.canvas.getBoundingClientRect();
    return [Math.floor(((event.clientY - box.top) / box.height) * this.matrix.rows),
            Math.floor(((event.clientX - box.left) / box.width) * this.matrix.columns)];
  }

  private moveTo(row: number, column: number): void {
    this.row = Math.max(0, Math.min(this.matrix.rows - 1, row));
    this.column = Math.max(0, Math.min(this.matrix.columns - 1, column));
    this.tell();
  }

  private key(event: KeyboardEvent): void {
    const steps: Record<string, [number, number]> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const step = steps[event.key];
    if (step) this.moveTo(this.row + step[0], this.column + step[1]);
    else if (event.key === "Enter" || event.key === " ") this.choose(this.row);
    else return;
    event.preventDefault();
    this.draw();
  }

  private tell(): void {
    if (this.matrix.rows === 0) return;
    const value = this.matrix.values[this.row * this.matrix.columns + this.column]!;
    this.told.textContent = `layer ${this.row}, ${this.what} ${this.column}: ${short(value)} tokens`;
  }
}
