// Keys on their way: kept until the server has passed them on, and sent only so far ahead.

const WINDOW = 64 * 1024; // bytes that the server holds for a shell that is behind
const PIECE = 8 * 1024; // bytes of a message

export class Keys {
  #pieces = []; // from the first that the shell may not have
  #first = 0; // count of bytes in front of those
  #sent = 0; // how many of the pieces the server has, or will have
  size = 0; // bytes in the pieces

  add(bytes) {
    for (let start = 0; start < bytes.length; start += PIECE) {
      this.#pieces.push(bytes.subarray(start, start + PIECE));
    }
    this.size += bytes.length;
  }

  // What may be sent now, in order; it counts as sent.
  due() {
    let ahead = this.#pieces.slice(0, this.#sent).reduce((sum, piece) => sum + piece.length, 0);
    const due = [];
    while (this.#sent < this.#pieces.length && ahead + this.#pieces[this.#sent].length <= WINDOW) {
      const piece = this.#pieces[this.#sent++];
      ahead += piece.length;
      due.push(piece);
    }
    return due;
  }

  // The shell has so many bytes.
  drop(count) {
    while (this.#sent && this.#first + this.#pieces[0].length <= count) {
      const piece = this.#pieces.shift();
      this.#first += piece.length;
      this.size -= piece.length;
      this.#sent--;
    }
  }

  // On a new connection: the server has so many bytes, what is behind them is due again.
  rewind(count) {
    this.#sent = 0;
    for (let end = this.#first; this.#sent < this.#pieces.length; this.#sent++) {
      end += this.#pieces[this.#sent].length;
      if (end > count) {
        break;
      }
    }
  }
}
