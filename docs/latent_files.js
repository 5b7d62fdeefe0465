/* Latents from a file: CSV, npz or npy, read within the page. Each error is one line: what was wrong,
   and what was expected. */
'use strict';
window.latentFiles = (() => {
  const MOST_BYTES = 64e6,
    MOST_ROWS = 20000;
  const fail = (text) => {
    throw new Error(text);
  };

  /* ---- text: one latent a line */

  const cells = (line, by) =>
    line
      .trim()
      .split(by)
      .map((cell) => cell.trim().replace(/^"(.*)"$/, '$1'));
  const isNumber = (cell) =>
    (cell !== '' && !Number.isNaN(Number(cell))) || /^[+-]?(nan|inf(inity)?)$/i.test(cell);

  /* lines of numbers, and perhaps a header that may name one column `label` */
  function fromText(text, m) {
    const lines = text
      .split(/\r?\n/)
      .map((line, i) => ({ line, at: i + 1 }))
      .filter(({ line }) => line.trim() && !line.startsWith('#'));
    if (!lines.length) fail('holds no line of numbers');
    const by = [',', ';', '\t'].find((mark) => lines[0].line.includes(mark)) ?? /\s+/;
    let place = m;
    const names = cells(lines[0].line, by);
    const named = names.findIndex((name) => /^labels?$/i.test(name));
    if (named >= 0 || !names.some(isNumber) || names.every((name, i) => name === String(i))) {
      lines.shift();
      if (named >= 0 && names.length !== m + 1)
        fail(`line 1: ${names.length} columns with the label, expected ${m + 1}`);
      if (named >= 0) place = named;
    }
    if (!lines.length) fail('holds a header and no numbers');
    const width = cells(lines[0].line, by).length,
      data = new Float64Array(lines.length * m),
      labels = width === m + 1 ? [] : null;
    lines.forEach(({ line, at }, row) => {
      const found = cells(line, by);
      if (found.length !== m && found.length !== m + 1)
        fail(`line ${at}: ${found.length} columns, expected ${m}, or ${m + 1} with a label last`);
      if (found.length !== width) fail(`line ${at}: ${found.length} columns, before it ${width}`);
      if (labels) labels.push({ value: found.splice(place, 1)[0], where: `line ${at}` });
      found.forEach((cell, i) => {
        const value = cell === '' ? NaN : Number(cell);
        if (!Number.isFinite(value)) fail(`line ${at}: "${cell}" is not a finite number`);
        data[row * m + i] = value;
      });
    });
    return { data, labels };
  }

  /* ---- numpy's arrays */

  const ITEMS = {
    f4: [4, (v, p) => v.getFloat32(p, true)],
    f8: [8, (v, p) => v.getFloat64(p, true)],
    i1: [1, (v, p) => v.getInt8(p)],
    u1: [1, (v, p) => v.getUint8(p)],
    i2: [2, (v, p) => v.getInt16(p, true)],
    u2: [2, (v, p) => v.getUint16(p, true)],
    i4: [4, (v, p) => v.getInt32(p, true)],
    u4: [4, (v, p) => v.getUint32(p, true)],
    i8: [8, (v, p) => Number(v.getBigInt64(p, true))],
    u8: [8, (v, p) => Number(v.getBigUint64(p, true))],
  };

  /* the shape of a .npy file, and a function that gives its numbers row by row */
  function fromNpy(bytes, name) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength),
      wide = bytes[6] > 1,
      start = wide ? 12 : 10;
    if (String.fromCharCode(...bytes.slice(1, 6)) !== 'NUMPY' || bytes.length < start)
      fail(`${name} is no array of numpy`);
    const end = start + (wide ? view.getUint32(8, true) : view.getUint16(8, true)),
      head = new TextDecoder('latin1').decode(bytes.slice(start, end)),
      descr = /'descr':\s*'([^']*)'/.exec(head)?.[1],
      fortran = /'fortran_order':\s*True/.test(head),
      tuple = /'shape':\s*\(([\d,\s]*)\)/.exec(head)?.[1];
    if (tuple === undefined) fail(`${name} is no array of numpy`);
    const shape = tuple.split(',').flatMap((s) => (s.trim() ? [Number(s)] : [])),
      count = shape.reduce((a, b) => a * b, 1);
    const numbers = () => {
      const [size, get] = ITEMS[descr?.replace(/^[<|]/, '')] ?? [];
      if (!get) fail(`${name} has numbers of the type ${descr ?? 'object'}, expected float32`);
      if (bytes.length < end + count * size) fail(`${name} is cut off`);
      const [rows, columns] = shape.length === 2 ? shape : [count, 1];
      return Float64Array.from({ length: count }, (_, i) => {
        const k = fortran ? (i % columns) * rows + Math.floor(i / columns) : i;
        return get(view, end + k * size);
      });
    };
    return { name, shape, numbers };
  }

  /* the members of a zip archive, from the table at its end */
  async function unzip(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let end = bytes.length - 22;
    while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
    if (end < 0) fail('is no complete npz file');
    const members = [];
    let at = view.getUint32(end + 16, true);
    for (let k = view.getUint16(end + 10, true); k; k--) {
      if (at + 46 > end || view.getUint32(at, true) !== 0x02014b50) fail('is no complete npz file');
      const [method, packed, size] = [
          view.getUint16(at + 10, true),
          view.getUint32(at + 20, true),
          view.getUint32(at + 24, true),
        ],
        [long, extra, comment] = [28, 30, 32].map((o) => view.getUint16(at + o, true)),
        local = view.getUint32(at + 42, true),
        name = new TextDecoder().decode(bytes.slice(at + 46, at + 46 + long));
      if (size > MOST_BYTES) fail(`${name} in it has ${megabytes(size)}, at most 64 are read here`);
      if (local + 30 > end) fail('is no complete npz file');
      const from = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true),
        raw = bytes.slice(from, from + packed);
      members.push({ name, content: method ? await inflated(raw, size, name) : raw });
      at += 46 + long + extra + comment;
    }
    return members;
  }

  /* no more is unpacked than the archive promised */
  async function inflated(raw, size, name) {
    const out = new Uint8Array(size),
      reader = new Blob([raw])
        .stream()
        .pipeThrough(new DecompressionStream('deflate-raw'))
        .getReader();
    let filled = 0;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (filled + value.length > size) break;
        out.set(value, filled);
        filled += value.length;
      }
    } catch {
      filled = -1;
    }
    if (filled !== size) fail(`${name} in it is damaged`);
    return out;
  }

  const shown = (array) => `${array.name} (${array.shape.join(' × ')})`;

  /* of several arrays: the 2-D one with M columns, and the labels that stand beside it */
  function fromArrays(arrays, m) {
    const flat = arrays.filter((a) => a.shape.length === 2),
      fitting = flat.filter((a) => a.shape[1] === m);
    if (!flat.length) fail(`holds no 2-D array: ${arrays.map(shown).join(', ') || 'it is empty'}`);
    if (!fitting.length)
      fail(`${flat.map(shown).join(', ')}: expected latents (N × ${m}), ${m} columns`);
    if (fitting.length > 1)
      fail(`${fitting.map(shown).join(', ')}: several could be the latents, leave one of them`);
    const [rows] = fitting[0].shape,
      data = fitting[0].numbers(),
      bad = data.findIndex((v) => !Number.isFinite(v));
    if (bad >= 0)
      fail(
        `${fitting[0].name}, row ${Math.floor(bad / m) + 1}: ${data[bad]} is not a finite number`,
      );
    const lists = arrays.filter((a) => a.shape.length === 1),
      given =
        lists.find((a) => /^(labels?|y)$/i.test(a.name)) ?? (lists.length === 1 ? lists[0] : null);
    if (!given) return { data, labels: null };
    if (given.shape[0] !== rows)
      fail(`${shown(given)} and ${rows} latents: expected a label for each`);
    const labels = Array.from(given.numbers(), (v, i) => ({
      value: String(v),
      where: `${given.name}, row ${i + 1}`,
    }));
    return { data, labels };
  }

  const megabytes = (n) => `${Math.ceil(n / 1e6)} MB`;

  /* a file's latents (N rows of M numbers) and the place of each label among the classes, or null */
  async function read(file, m, classes) {
    if (!file.size) fail('is empty');
    if (file.size > MOST_BYTES) fail(`has ${megabytes(file.size)}, at most 64 are read here`);
    const bytes = new Uint8Array(await file.arrayBuffer()),
      zip = bytes[0] === 0x50 && bytes[1] === 0x4b,
      npy = bytes[0] === 0x93;
    if (/\.npz$/i.test(file.name) && !zip) fail('is no npz file, whatever its name says');
    const { data, labels } = zip
      ? fromArrays(
          (await unzip(bytes))
            .filter(({ name }) => name.endsWith('.npy'))
            .map(({ name, content }) => fromNpy(content, name.slice(0, -4))),
          m,
        )
      : npy
        ? fromArrays([fromNpy(bytes, 'array')], m)
        : fromText(new TextDecoder().decode(bytes), m);
    const n = data.length / m;
    if (!n) fail('holds no latent');
    if (n > MOST_ROWS)
      fail(
        `holds ${n.toLocaleString('en')} latents, at most ${MOST_ROWS.toLocaleString('en')} are read here`,
      );
    const places = labels?.map(({ value, where }) => {
      const place = classes.findIndex((l) => String(l) === value || (value && Number(value) === l));
      if (place < 0)
        fail(`${where}: the label ${value || '(none)'} is none of ${classes.join(', ')}`);
      return place;
    });
    return {
      latents: Array.from({ length: n }, (_, i) => data.subarray(i * m, (i + 1) * m)),
      labels: places ?? null,
    };
  }

  return { read };
})();
