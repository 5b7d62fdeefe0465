/* The playground: encoder, generator and classifier run here, by onnxruntime-web, from files of
   this site. Nothing else is loaded. */
'use strict';
document.addEventListener('DOMContentLoaded', () => {
  const SIDE = 28,
    COLOURS = [
      '#1f77b4',
      '#ff7f0e',
      '#2ca02c',
      '#d62728',
      '#9467bd',
      '#8c564b',
      '#e377c2',
      '#7f7f7f',
      '#bcbd22',
      '#17becf',
    ];
  const home = document.getElementById('lsd-playground');
  if (!home) return;
  const base = new URL('playground/', location.href);
  const tell = (...lines) => {
    home.innerHTML = '';
    for (const line of lines) {
      const p = document.createElement('p');
      p.className = 'note';
      p.innerHTML = line;
      home.append(p);
    }
  };
  home.dataset.state = 'loading';

  if (location.protocol === 'file:') {
    home.dataset.state = 'file';
    return tell(
      'This page was opened as a file, and a browser does not let a file load others, ' +
        'such as the networks.',
      'Serve the folder instead, then open the address it prints:<br>' +
        '<code>python -m http.server --directory _build/html --bind 127.0.0.1</code>',
    );
  }

  /* ---- the method, on plain arrays */

  const dot = (a, b) => {
    let s = 0;
    for (let i = 0; i < a.length; i++) s += a[i] * b[i];
    return s;
  };
  const norm = (a) => Math.sqrt(dot(a, a));
  const largest = (a) => a.reduce((best, v, i) => (Math.abs(v) > Math.abs(a[best]) ? i : best), 0);

  /* lsd_nb.explore.knobs: set one amplitude, keep the k largest */
  function knobs(c, { keep, change }) {
    c = Array.from(c);
    if (change) c[change[0]] = change[1];
    const order = c.map((v, i) => i).sort((i, j) => Math.abs(c[j]) - Math.abs(c[i]));
    for (const i of order.slice(keep)) c[i] = 0;
    return c;
  }

  /* a basis as lsd_nb.export writes it: c = analysis · (z - center), z = center + c · vectors */
  const amplitudes = ({ analysis, center }, z) => {
    const away = Array.from(z, (v, i) => v - center[i]);
    return analysis.map((row) => dot(row, away));
  };
  /* the vector whose label the basis reads: of the largest score, |c| or c */
  const leader = ({ labels, center, reading, readers }, c, z) => {
    const away = Array.from(z, (v, i) => v - center[i]);
    const score = readers
      ? readers.rows.map((row, i) => dot(row, away) + readers.offsets[i])
      : c.map((v) => (reading === 'absolute' ? Math.abs(v) : v));
    const of = readers ? readers.vectors : c.map((_, k) => k);
    let best = -1;
    score.forEach((v, i) => {
      if (labels[of[i]] !== null && (best < 0 || v > score[best])) best = i;
    });
    return of[best];
  };
  const synthesise = ({ vectors, center }, c) => {
    const z = center.slice();
    c.forEach((v, k) => {
      if (v) for (let i = 0; i < z.length; i++) z[i] += v * vectors[k][i];
    });
    return z;
  };

  /* latents of N(0, 1) have length √M */
  const onShell = (z) => {
    const s = Math.sqrt(z.length) / norm(z);
    return z.map((v) => v * s);
  };

  /* lsd_nb.operators.slerp */
  function slerp(a, b, t) {
    const p = norm(a),
      q = norm(b),
      x = a.map((v) => v / p),
      y = b.map((v) => v / q);
    const apart = norm(x.map((v, i) => v - y[i])),
      along = norm(x.map((v, i) => v + y[i]));
    const angle = 2 * Math.atan2(apart, along);
    const [u, w] = [1 - t, t].map((s) =>
      angle > 1e-4 ? Math.sin(s * angle) / Math.sin(angle) : s,
    );
    return x.map((v, i) => (u * v + w * y[i]) * ((1 - t) * p + t * q));
  }

  /* lsd_nb.decomposition.relabelled, the edit behind `rotate`: exchange the leading amplitude for
     the label's, and raise that until the classifier sees it */
  const LEVELS = [0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.5, 2, 3, 5];
  async function relabelled(table, firsts, z, goal, sees) {
    const u = onShell(z),
      c = amplitudes(table, u);
    const own = firsts.reduce((best, k) => (Math.abs(c[k]) > Math.abs(c[best]) ? k : best));
    if (own === goal && (await sees(u))) return u;
    let found = u;
    for (const level of LEVELS) {
      const least = Math.max(0.8 * Math.abs(c[own]), level),
        change = new Float64Array(c.length);
      change[own] = c[goal] - c[own];
      change[goal] += least - c[goal];
      const step = synthesise({ ...table, center: u }, change);
      found = onShell(step);
      if (await sees(found)) break;
    }
    return found;
  }

  /* an image moved by an affine map, bilinear, nothing outside; or, of a gradient, the way back */
  function moved(image, theta, back) {
    const low = back ? 0 : Math.min(...image),
      out = new Float32Array(SIDE * SIDE).fill(low);
    for (let y = 0; y < SIDE; y++)
      for (let x = 0; x < SIDE; x++) {
        const u = (2 * x + 1) / SIDE - 1,
          v = (2 * y + 1) / SIDE - 1,
          px = ((theta[0] * u + theta[1] * v + theta[2] + 1) * SIDE - 1) / 2,
          py = ((theta[3] * u + theta[4] * v + theta[5] + 1) * SIDE - 1) / 2;
        for (const i of [Math.floor(px), Math.floor(px) + 1])
          for (const j of [Math.floor(py), Math.floor(py) + 1]) {
            if (i < 0 || j < 0 || i >= SIDE || j >= SIDE) continue;
            const w = (1 - Math.abs(px - i)) * (1 - Math.abs(py - j)),
              here = y * SIDE + x,
              there = j * SIDE + i;
            if (back) out[there] += w * image[here];
            else out[here] += w * (image[there] - low);
          }
      }
    return out;
  }

  const softmax = (logits) => {
    const top = Math.max(...logits),
      e = logits.map((v) => Math.exp(v - top)),
      sum = e.reduce((a, b) => a + b);
    return e.map((v) => v / sum);
  };

  /* what a frame's loss says of its logits: of the last, a lead of b; of others, a or b, surely */
  function complaint(logits, a, b, last, margin = 5) {
    if (last) {
      const others = logits.map((v, k) => (k === b ? -Infinity : v)),
        top = Math.max(...others),
        lead = logits[b] - top - Math.log(others.reduce((sum, v) => sum + Math.exp(v - top), 0));
      const slope = lead < margin ? 1 : 0;
      return softmax(others).map((v, k) => slope * (k === b ? -1 : v));
    }
    const p = softmax(logits);
    const log = p.map((v) => Math.log(Math.max(v, 1e-30))),
      entropy = -dot(p, log),
      both = a === b ? p[a] : p[a] + p[b];
    return p.map((v, k) => -v * (log[k] + entropy) + v - (k === a || k === b ? v / both : 0));
  }

  /* lsd_nb.descent.clear_path, with its defaults, for one path of latents */
  async function clearPath(path, a, b, { jitter, decodeAll, classifyAll, back }) {
    const [first, ...start] = path,
      m = first.length,
      n = start.length,
      pixels = SIDE * SIDE,
      u = start.map((z) => Array.from(z)),
      radius = start.map(norm),
      [mean, square] = [0, 1].map(() => u.map(() => new Float64Array(m)));
    for (const [t, { theta, noise }] of jitter.entries()) {
      const images = await decodeAll(u.flat()),
        shown = new Float32Array(n * pixels);
      for (let k = 0; k < n; k++)
        moved(images.slice(k * pixels, (k + 1) * pixels), theta, false).forEach((v, i) => {
          shown[k * pixels + i] = v + noise[i];
        });
      const logits = Array.from(await classifyAll(shown)),
        l = logits.length / n;
      const wanted = u.flatMap((_, k) =>
        complaint(logits.slice(k * l, (k + 1) * l), a, b, k === n - 1),
      );
      const byImage = await back.classifier(shown, wanted, n),
        byDrawn = new Float32Array(n * pixels);
      for (let k = 0; k < n; k++)
        byDrawn.set(moved(byImage.slice(k * pixels, (k + 1) * pixels), theta, true), k * pixels);
      const byLatent = await back.generator(u.flat(), byDrawn, n),
        old = u.map((z) => z.slice());
      for (let k = 0; k < n; k++) {
        const long = norm(old[k]);
        for (let i = 0; i < m; i++) {
          const before = k ? old[k - 1][i] : first[i];
          let g = byLatent[k * m + i] + 0.1 * (1 - radius[k] / long) * old[k][i];
          g +=
            k === n - 1
              ? 0.2 * (old[k][i] - start[k][i])
              : 0.1 * (2 * old[k][i] - before - old[k + 1][i]);
          mean[k][i] = 0.9 * mean[k][i] + 0.1 * g;
          square[k][i] = 0.999 * square[k][i] + 0.001 * g * g;
          const [p, q] = [mean[k][i] / (1 - 0.9 ** (t + 1)), square[k][i] / (1 - 0.999 ** (t + 1))];
          u[k][i] -= (0.1 * p) / (Math.sqrt(q) + 1e-8);
        }
      }
    }
    return [first, ...u];
  }

  /* lsd_nb.explore.turned: a place between frames */
  function turned(path, angle) {
    const place = (angle / 90) * (path.length - 1),
      k = Math.min(Math.floor(place), path.length - 2);
    return place === k ? path[k] : slerp(path[k], path[k + 1], place - k);
  }

  /* MNIST's way with a drawing: its box scaled to 20 pixels, its mass in the middle */
  function asDigit(canvas) {
    const { width: w, height: h } = canvas,
      ink = canvas.getContext('2d').getImageData(0, 0, w, h).data;
    let [left, right, top, bottom] = [w, -1, h, -1];
    for (let y = 0; y < h; y++)
      for (let x = 0; x < w; x++)
        if (ink[4 * (y * w + x)] > 32) {
          left = Math.min(left, x);
          right = Math.max(right, x);
          top = Math.min(top, y);
          bottom = Math.max(bottom, y);
        }
    if (right < 0) return null;
    const bw = right - left + 1,
      bh = bottom - top + 1,
      scale = 20 / Math.max(bw, bh);
    const sw = Math.max(1, Math.round(bw * scale)),
      sh = Math.max(1, Math.round(bh * scale));
    /* every small pixel is the mean of the drawing under it */
    const small = new Float32Array(sw * sh);
    let mass = 0,
      mx = 0,
      my = 0;
    for (let y = 0; y < sh; y++)
      for (let x = 0; x < sw; x++) {
        const x0 = left + Math.floor((x * bw) / sw),
          x1 = left + Math.max(Math.floor((x * bw) / sw) + 1, Math.floor(((x + 1) * bw) / sw));
        const y0 = top + Math.floor((y * bh) / sh),
          y1 = top + Math.max(Math.floor((y * bh) / sh) + 1, Math.floor(((y + 1) * bh) / sh));
        let sum = 0;
        for (let v = y0; v < y1; v++) for (let u = x0; u < x1; u++) sum += ink[4 * (v * w + u)];
        const grey = sum / ((x1 - x0) * (y1 - y0));
        small[y * sw + x] = grey;
        mass += grey;
        mx += grey * x;
        my += grey * y;
      }
    const clip = (v, most) => Math.max(0, Math.min(most, Math.round(v)));
    const ox = clip(13.5 - mx / mass, SIDE - sw),
      oy = clip(13.5 - my / mass, SIDE - sh);
    const page = new Float32Array(SIDE * SIDE).fill(-1);
    for (let y = 0; y < sh; y++)
      for (let x = 0; x < sw; x++) page[(y + oy) * SIDE + x + ox] = small[y * sw + x] / 127.5 - 1;
    return page;
  }

  function show(canvas, image) {
    const pen = canvas.getContext('2d'),
      data = pen.createImageData(SIDE, SIDE);
    image.forEach((v, i) => {
      const g = Math.round((Math.max(-1, Math.min(1, v)) + 1) * 127.5);
      data.data.set([g, g, g, 255], 4 * i);
    });
    pen.putImageData(data, 0, 0);
  }

  /* ---- the page */

  const PAGE = `
    <div class="pg-row">
      <figure><canvas id="pg-pad" width="224" height="224"
        aria-label="Pad: draw a digit here"></canvas>
        <figcaption>draw here
          <button id="pg-clear" type="button">clear</button></figcaption></figure>
      <figure><canvas id="pg-in" width="28" height="28" role="img"
        aria-label="The image that the encoder sees"></canvas>
        <figcaption id="pg-in-is">what the encoder sees</figcaption></figure>
      <figure><canvas id="pg-out" width="28" height="28" role="img"
        aria-label="The decoded image"></canvas>
        <figcaption>decoded: <b id="pg-read">–</b></figcaption></figure>
    </div>
    <p class="pg-examples">or take one of MNIST's: <span id="pg-examples"></span>
      <label>or a file of yours, a picture or latents (CSV, npz), which may also be dropped here:
        <input id="pg-file" type="file" accept="image/*,.csv,.txt,.npz,.npy"></label></p>
    <p id="pg-error" role="alert"></p>
    <p>The spectrum says <b id="pg-label">–</b>. <span class="pg-quiet" id="pg-ms"></span></p>
    <svg id="pg-bars" viewBox="0 0 600 170" role="img"
      aria-label="Amplitudes, one bar for each quasi-eigenvector"></svg>
    <p id="pg-legend" class="pg-quiet"></p>
    <div class="pg-knobs">
      <label for="pg-keep">keep the largest</label>
      <input id="pg-keep" type="range" min="1" step="1"><output id="pg-keep-is"></output>
      <label for="pg-angle">turn to
        <select id="pg-goal" aria-label="label to turn to"></select></label>
      <input id="pg-angle" type="range" min="0" max="90" step="1" value="0"
        aria-label="angle in degrees"><output id="pg-angle-is"></output>
      <label for="pg-amp">amplitude of <span id="pg-which"></span></label>
      <input id="pg-amp" type="range" min="-1" max="1" step="0.01"><output id="pg-amp-is"></output>
    </div>
    <p><button id="pg-reset" type="button">put all knobs back</button></p>
    <div class="pg-part">
      <p><b>A plane of two labels:</b>
        <label>across <select id="pg-across"></select></label>
        <label>up <select id="pg-up"></select></label></p>
      <svg id="pg-plane" viewBox="0 0 452 440" role="application" tabindex="0" aria-label="Plane of
        two amplitudes with the images that it decodes to: click one, or use the arrow keys"></svg>
      <p class="pg-quiet">Each image is the code with these two amplitudes set: click one, and it is
        the code. ○ the code, ● what the knobs make of it<span id="pg-dots"></span>.</p>
    </div>
    <div class="pg-part" id="pg-many" hidden>
      <p><b id="pg-many-name"></b>: <span id="pg-many-says"></span></p>
      <p><label>mean |amplitude| of <select id="pg-many-of"></select></label>
        <span class="pg-quiet" id="pg-many-most"></span></p>
      <svg id="pg-many-bars" viewBox="0 0 600 130" role="img"
        aria-label="Mean amount of each amplitude of the latents in the file"></svg>
      <table id="pg-many-table"></table>
    </div>`;

  async function load() {
    const get = async (name, kind) => {
      const answer = await fetch(new URL(name, base));
      if (!answer.ok) throw new Error(`${name} is not there (${answer.status})`);
      return answer[kind]();
    };
    const ort = await import(new URL('ort.js', base));
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = await get('ort.wasm', 'arrayBuffer');
    const names = ['generator', 'classifier', 'encoder', 'generator_back', 'classifier_back'];
    const [table, examples, jitter, ...bytes] = await Promise.all([
      ...['basis', 'examples', 'jitter'].map((n) => get(`${n}.json`, 'json')),
      ...names.map((n) => get(`${n}.onnx`, 'arrayBuffer')),
    ]);
    const sessions = [];
    for (const b of bytes)
      sessions.push(
        await ort.InferenceSession.create(new Uint8Array(b), { executionProviders: ['wasm'] }),
      );
    const [generator, classifier, encoder, ...backward] = sessions;
    const run = async (session, name, data, shape, out) =>
      (await session.run({ [name]: new ort.Tensor('float32', Float32Array.from(data), shape) }))[
        out
      ].data;
    const m = table.latent_dim,
      tensor = (data, shape) => new ort.Tensor('float32', Float32Array.from(data), shape);
    const gradient = (session, shape) => async (x, g, n) =>
      (await session.run({ x: tensor(x, [n, ...shape]), g: tensor(g, [n, g.length / n]) })).back
        .data;
    const image = (session) => async (x, g, n) =>
      (await session.run({ x: tensor(x, [n, m]), g: tensor(g, [n, 1, SIDE, SIDE]) })).back.data;
    return {
      table,
      examples,
      descent: {
        jitter,
        decodeAll: (z) => run(generator, 'latent', z, [z.length / m, m], 'image'),
        classifyAll: (x) =>
          run(classifier, 'image', x, [x.length / SIDE ** 2, 1, SIDE, SIDE], 'logits'),
        back: { generator: image(backward[0]), classifier: gradient(backward[1], [1, SIDE, SIDE]) },
      },
      encode: (image) => run(encoder, 'image', image, [1, 1, SIDE, SIDE], 'mean'),
      decode: (z) => run(generator, 'latent', z, [1, m], 'image'),
      classify: (image) => run(classifier, 'image', image, [1, 1, SIDE, SIDE], 'logits'),
    };
  }

  function start({ table, examples, descent, encode, decode, classify }) {
    home.innerHTML = PAGE;
    const at = (id) => document.getElementById(`pg-${id}`);
    const { labels, sets, latent_dim: m } = table,
      K = labels.length,
      classes = [...new Set(labels.filter((l) => l !== null))].sort((a, b) => a - b);
    const colour = (k) =>
      labels[k] === null ? '#999999' : COLOURS[classes.indexOf(labels[k]) % 10];
    const first = (label) => labels.findIndex((l, k) => l === label && sets[k] === 1);
    const firsts = classes.map(first),
      probabilities = softmax;
    let c = null,
      code = null,
      remembered = {},
      label = null,
      chosen = 0,
      touched = false,
      busy = false,
      again = false;

    const fresh = () => {
      at('keep').max = at('keep').value = K;
      at('angle').value = 0;
      touched = false;
      if (c) choose(largest(c));
    };
    const choose = (k) => {
      chosen = k;
      touched = false;
      at('amp').value = c ? c[k] : 0;
      at('which').textContent = labels[k] === null ? `vector ${k}` : `${labels[k]}, set ${sets[k]}`;
    };

    function bars(before, after) {
      const all = [...before, ...after],
        top = Math.max(0.1, ...all),
        low = Math.min(-0.03, ...all),
        step = 600 / K;
      const y = (v) => 4 + ((top - v) / (top - low)) * 150,
        zero = y(0);
      at('bars').innerHTML =
        `<line x1="0" x2="600" y1="${zero}" y2="${zero}" stroke="currentColor" ` +
        `stroke-opacity=".4"/>` +
        after
          .map((v, k) => {
            const bar = (u, extra) =>
              `<rect x="${(k * step).toFixed(1)}" width="${(step * 0.86).toFixed(1)}" ` +
              `y="${Math.min(y(u), zero).toFixed(1)}" ` +
              `height="${Math.abs(y(u) - zero).toFixed(1)}" fill="${colour(k)}" ${extra}/>`;
            const name = labels[k] === null ? 'no label' : `${labels[k]}, set ${sets[k]}`;
            return (
              `<g data-k="${k}" tabindex="-1">` +
              `${bar(before[k], 'fill-opacity=".25"')}${bar(v, '')}` +
              `<rect x="${k * step}" width="${step}" y="0" height="160" fill="transparent">` +
              `<title>${name}: ${v.toFixed(3)}</title></rect></g>`
            );
          })
          .join('') +
        `<text x="${(chosen + 0.5) * step}" y="169" font-size="10" ` +
        `text-anchor="middle" fill="currentColor">▲</text>`;
    }

    async function update() {
      if (!c) return;
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      const started = performance.now(),
        goal = +at('goal').value,
        keep = +at('keep').value;
      const change = touched ? [chosen, +at('amp').value] : null,
        kept = knobs(c, { keep, change });
      let z = synthesise(table, kept);
      if (keep === K) {
        const had = synthesise(table, c);
        z = z.map((v, i) => v + code[i] - had[i]);
      }
      if (+at('angle').value) {
        const asked = JSON.stringify([goal, z]);
        if (remembered.asked !== asked) {
          const sees = async (u) => {
            const p = probabilities(Array.from(await classify(await decode(u)))),
              k = classes.indexOf(goal);
            return p[k] === Math.max(...p) && p[k] >= 0.9;
          };
          at('ms').textContent = 'turning …';
          const end = await relabelled(table, firsts, z, first(goal), sees),
            from = labels[leader(table, amplitudes(table, z), z)];
          const frames = [0, 1, 2, 3].map((k) => slerp(z, end, k / 3)),
            ends = [from, goal].map((l) => classes.indexOf(l));
          remembered = { asked, path: await clearPath(frames, ...ends, descent) };
        }
        z = turned(remembered.path, +at('angle').value);
      }
      const now = amplitudes(table, z),
        image = await decode(z);
      const p = probabilities(Array.from(await classify(image))),
        read = p.indexOf(Math.max(...p)),
        sure = p[read];
      show(at('out'), image);
      bars(Array.from(c), now);
      at('read').textContent = `${classes[read]} (${Math.round(100 * sure)} %)`;
      at('keep-is').textContent = at('keep').value;
      at('angle-is').textContent = `${at('angle').value}°`;
      at('amp-is').textContent = (+at('amp').value).toFixed(2);
      at('ms').textContent =
        `Knobs, generator and classifier took ${(performance.now() - started).toFixed(0)} ms.`;
      const milliseconds = performance.now() - started;
      await drawMap();
      drawPlane(now);
      Object.assign(home.dataset, {
        label,
        read: classes[read],
        kept: now.filter((v) => Math.abs(v) > 1e-5).length,
        milliseconds,
        point: axes()
          .map((k) => c[k].toFixed(3))
          .join(' '),
        updates: +(home.dataset.updates ?? 0) + 1,
      });
      remember();
      busy = false;
      if (again) {
        again = false;
        update();
      }
    }

    /* the address holds the image and the knobs: whoever opens it sees the same */
    const KNOBS = ['keep', 'goal', 'angle', 'across', 'up'];
    let source = null;
    function remember() {
      const knobs = KNOBS.map((id) => `${id}=${at(id).value}`);
      const amp = touched ? [`vector=${chosen}`, `amp=${at('amp').value}`] : [];
      history.replaceState(null, '', `#${[source, ...knobs, ...amp].join('&')}`);
    }
    const toText = (image) =>
      btoa(String.fromCharCode(...Array.from(image, (v) => Math.round((v + 1) * 127.5))))
        .replaceAll('+', '-')
        .replaceAll('/', '_');
    const codeText = (z) =>
      btoa(String.fromCharCode(...new Uint8Array(Float32Array.from(z).buffer)))
        .replaceAll('+', '-')
        .replaceAll('/', '_');
    const toCode = (text) => {
      const bytes = Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (b) =>
        b.charCodeAt(0),
      );
      return Array.from(new Float32Array(bytes.buffer));
    };
    const toImage = (text) => {
      const bytes = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
      return Float32Array.from(bytes, (b) => b.charCodeAt(0) / 127.5 - 1);
    };

    async function look(image, name) {
      if (!name) image = toImage(toText(image)); // what the address can hold, to the grey level
      await take(Array.from(await encode(image)), name ?? `image=${toText(image)}`, image);
    }

    /* a code: of an image, from the plane, or of a file's latents */
    async function take(z, name, image) {
      code = z;
      source = name ?? `code=${codeText(z)}`;
      c = amplitudes(table, code);
      label = labels[leader(table, c, code)];
      show(at('in'), image ?? (await decode(code)));
      at('in-is').textContent = image ? 'what the encoder sees' : 'the code, decoded';
      at('label').textContent = label;
      at('error').textContent = '';
      if (+at('goal').value === label)
        at('goal').value = classes[(classes.indexOf(label) + 1) % classes.length];
      if (!at('across').value) [at('across').value, at('up').value] = [label, at('goal').value];
      fresh();
      await update();
    }

    /* ---- the plane: the code's amplitudes of two labels, set to the places of a grid */

    const GRID = [-0.3, -0.15, 0, 0.15, 0.3, 0.45, 0.6],
      CELL = 54,
      [LEFT, TOP] = [66, 8];
    const axes = () => ['across', 'up'].map((id) => first(+at(id).value));
    const place2 = (v) => Math.max(-0.5, Math.min(GRID.length - 0.5, (v - GRID[0]) / 0.15)) + 0.5,
      xOf = (v) => LEFT + CELL * place2(v),
      yOf = (v) => TOP + CELL * (GRID.length - place2(v));
    let map = { asked: null, picture: '' },
      many = null;

    /* the code with its two amplitudes set */
    function at2(i, j, x, y) {
      const change = new Float64Array(K);
      change[i] = x - c[i];
      change[j] = y - c[j];
      return synthesise({ ...table, center: code }, change);
    }

    async function drawMap() {
      const [i, j] = axes(),
        asked = JSON.stringify([i, j, code]);
      if (map.asked === asked) return;
      const rows = GRID.toReversed().flatMap((y) => GRID.map((x) => at2(i, j, x, y))),
        images = await descent.decodeAll(rows.flat()),
        side = GRID.length * SIDE,
        sheet = Object.assign(document.createElement('canvas'), { width: side, height: side }),
        cell = Object.assign(document.createElement('canvas'), { width: SIDE, height: SIDE });
      rows.forEach((_, k) => {
        show(cell, images.slice(k * SIDE ** 2, (k + 1) * SIDE ** 2));
        const [x, y] = [k % GRID.length, Math.floor(k / GRID.length)];
        sheet.getContext('2d').drawImage(cell, x * SIDE, y * SIDE);
      });
      map = { asked, picture: sheet.toDataURL() };
    }

    function drawPlane(now) {
      const [i, j] = axes(),
        size = CELL * GRID.length,
        text = (x, y, words, more = '') =>
          `<text x="${x}" y="${y}" font-size="15" text-anchor="middle" fill="currentColor" ` +
          `${more}>${words}</text>`,
        number = (v) => v.toFixed(2).replace('-', '−'),
        mark = (v, size, fill) =>
          `<circle cx="${xOf(v[i])}" cy="${yOf(v[j])}" r="${size}" fill="${fill}" ` +
          `stroke="#ff9d00" stroke-width="3"/>`;
      const dots = many
        ? many.dots.map((k) => {
            const a = many.amplitudes[k],
              of = many.labels ? many.labels[k] : many.read[k];
            return (
              `<circle class="pg-dot" data-n="${k}" cx="${xOf(a[i]).toFixed(1)}" ` +
              `cy="${yOf(a[j]).toFixed(1)}" r="4" fill="${COLOURS[of % 10]}" stroke="white"/>`
            );
          })
        : [];
      at('plane').innerHTML =
        `<image href="${map.picture}" x="${LEFT}" y="${TOP}" width="${size}" height="${size}"/>` +
        GRID.map(
          (v) => text(xOf(v), TOP + size + 18, number(v)) + text(LEFT - 28, yOf(v) + 5, number(v)),
        ).join('') +
        text(LEFT + size / 2, TOP + size + 40, `amplitude of ${labels[i]}`) +
        text(
          0,
          0,
          `amplitude of ${labels[j]}`,
          `transform="translate(14 ${TOP + size / 2}) rotate(-90)"`,
        ) +
        dots.join('') +
        mark(now, 4, '#ff9d00') +
        mark(c, 10, 'none');
      at('dots').textContent = many ? `, small dots: ${many.dots.length} latents of the file` : '';
    }

    /* a click: on a dot, that latent; else the nearest place of the grid */
    function clicked(event) {
      if (!c) return;
      const dot = event.target.closest?.('.pg-dot');
      if (dot) return take(Array.from(many.latents[+dot.dataset.n]));
      const box = at('plane').getBoundingClientRect(),
        [x, y] = [event.clientX - box.left, event.clientY - box.top].map(
          (v) => (v / box.width) * 452,
        ),
        [col, row] = [(x - LEFT) / CELL, (y - TOP) / CELL].map(Math.floor);
      if (col in GRID && row in GRID) step(GRID[col], GRID[GRID.length - 1 - row]);
    }
    const step = (x, y) => take(at2(...axes(), x, y));
    const near = (v) =>
      GRID.reduce((best, g, k) => (Math.abs(g - v) < Math.abs(GRID[best] - v) ? k : best), 0);

    /* an arrow key: the neighbour on that side */
    function pressed(event) {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      if (!c || !move[event.key]) return;
      event.preventDefault();
      event.stopPropagation(); // else Sphinx turns the page
      const [x, y] = axes().map((k, axis) => GRID[near(c[k]) + move[event.key][axis]]);
      if (x !== undefined && y !== undefined) step(x, y);
    }

    /* two axes are two labels: the one that was not touched gives way */
    function chooseAxis(touchedAxis) {
      const other = touchedAxis === 'across' ? 'up' : 'across';
      if (at(touchedAxis).value === at(other).value) {
        const k = classes.indexOf(+at(other).value);
        at(other).value = classes[(k + 1) % classes.length];
      }
    }

    /* ---- latents of a file: their mean spectrum, and what the basis reads */

    async function openLatents(file) {
      const { latents, labels: given } = await latentFiles.read(file, m, classes),
        all = [],
        read = [];
      for (const [k, z] of latents.entries()) {
        all.push(amplitudes(table, z));
        read.push(classes.indexOf(labels[leader(table, all[k], z)]));
        if (k % 500 === 499) await new Promise((done) => setTimeout(done));
      }
      const stride = Math.ceil(latents.length / 500),
        dots = latents.flatMap((_, k) => (k % stride ? [] : [k]));
      many = { latents, labels: given, amplitudes: all, read, dots };
      at('many').hidden = false;
      at('many-name').textContent = file.name;
      const groups = given ?? read;
      at('many-of').replaceChildren(new Option(`all ${latents.length} latents`, ''));
      classes.forEach((l, k) => {
        if (groups.includes(k))
          at('many-of').add(new Option(given ? `those labelled ${l}` : `those read as ${l}`, k));
      });
      sayMany();
      drawMany();
      await update();
    }

    function sayMany() {
      const { read, labels: given } = many,
        n = read.length,
        count = (list, k) => list.filter((v) => v === k).length,
        right = given && read.filter((v, i) => v === given[i]).length,
        share = (a, b) => (b ? `${((100 * a) / b).toFixed(1)} %` : '–');
      at('many-says').textContent = given
        ? `${right} of ${n} latents are read right (${share(right, n)}).`
        : `${n} latents, without labels.`;
      const rows = classes.map((l, k) => {
        if (!given) return [l, count(read, k)];
        const of = count(given, k),
          hits = read.filter((v, i) => v === k && given[i] === k).length;
        return [l, count(read, k), of, hits, share(hits, of)];
      });
      const head = ['label', 'read so', ...(given ? ['labelled so', 'right', 'share'] : [])],
        row = (cells, tag) => `<tr>${cells.map((v) => `<${tag}>${v}</${tag}>`).join('')}</tr>`;
      at('many-table').innerHTML = row(head, 'th') + rows.map((r) => row(r, 'td')).join('');
      Object.assign(home.dataset, {
        latents: n,
        right: right ?? '',
        reads: classes.map((_, k) => count(read, k)).join(' '),
      });
    }

    function drawMany() {
      const of = at('many-of').value,
        groups = many.labels ?? many.read,
        chosenRows = many.amplitudes.filter((_, k) => of === '' || groups[k] === +of),
        mean = new Float64Array(K);
      for (const row of chosenRows) row.forEach((v, k) => (mean[k] += Math.abs(v)));
      mean.forEach((v, k) => (mean[k] = v / chosenRows.length));
      const top = Math.max(...mean, 1e-9),
        width = 600 / K,
        name = (k) => (labels[k] === null ? `vector ${k}` : `${labels[k]}, set ${sets[k]}`);
      at('many-bars').innerHTML = Array.from(mean, (v, k) => {
        const tall = (v / top) * 124;
        return (
          `<rect x="${(k * width).toFixed(1)}" width="${(width * 0.86).toFixed(1)}" ` +
          `y="${(127 - tall).toFixed(1)}" height="${tall.toFixed(1)}" fill="${colour(k)}">` +
          `<title>${name(k)}: ${v.toFixed(3)}</title></rect>`
        );
      }).join('');
      at('many-most').textContent = `largest: ${name(largest(mean))}, ${top.toFixed(3)}`;
      home.dataset.mean = mean.map((v) => +v.toFixed(5)).join(' ');
    }

    /* drawing, by mouse, pen or finger */
    const pad = at('pad'),
      pen = pad.getContext('2d', { willReadFrequently: true });
    const wipe = () => {
      pen.fillStyle = 'black';
      pen.fillRect(0, 0, pad.width, pad.height);
    };
    const place = (e) => {
      const r = pad.getBoundingClientRect();
      return [
        ((e.clientX - r.left) * pad.width) / r.width,
        ((e.clientY - r.top) * pad.height) / r.height,
      ];
    };
    let down = false;
    pad.addEventListener('pointerdown', (e) => {
      down = true;
      pad.setPointerCapture(e.pointerId);
      pen.strokeStyle = 'white';
      pen.lineWidth = 17;
      pen.lineCap = pen.lineJoin = 'round';
      pen.beginPath();
      pen.moveTo(...place(e));
      pen.lineTo(...place(e));
      pen.stroke();
    });
    pad.addEventListener('pointermove', (e) => {
      if (down) {
        pen.lineTo(...place(e));
        pen.stroke();
      }
    });
    const up = () => {
      if (!down) return;
      down = false;
      const image = asDigit(pad);
      if (image) look(image);
    };
    pad.addEventListener('pointerup', up);
    pad.addEventListener('pointercancel', up);
    at('clear').addEventListener('click', wipe);

    for (const id of ['goal', 'across', 'up']) classes.forEach((l) => at(id).add(new Option(l, l)));
    examples.forEach((grey, k) => {
      const b = document.createElement('button');
      b.type = 'button';
      b.textContent = k;
      b.setAttribute('aria-label', `the test image of a ${k}`);
      b.addEventListener('click', () => {
        wipe();
        look(
          grey.map((v) => v / 127.5 - 1),
          `digit=${k}`,
        );
      });
      at('examples').append(b, ' ');
    });
    at('legend').innerHTML =
      classes
        .map((l, i) => `<span style="border-bottom: 3px solid ${COLOURS[i % 10]}">${l}</span>`)
        .join(' ') +
      " – pale: the image's own amplitude; full: what the knobs leave. Click a bar to choose it.";
    for (const id of ['keep', 'angle']) at(id).addEventListener('input', update);
    at('goal').addEventListener('change', update);
    for (const id of ['across', 'up'])
      at(id).addEventListener('change', () => {
        chooseAxis(id);
        update();
      });
    at('plane').addEventListener('click', clicked);
    at('plane').addEventListener('keydown', pressed);
    at('many-of').addEventListener('change', drawMany);
    at('amp').addEventListener('input', () => {
      touched = true;
      update();
    });
    at('bars').addEventListener('click', (e) => {
      const g = e.target.closest('[data-k]');
      if (g) {
        choose(+g.dataset.k);
        update();
      }
    });
    at('reset').addEventListener('click', () => {
      fresh();
      update();
    });
    /* a picture: into the pad, dark strokes on bright paper turned round */
    async function openPicture(file) {
      const picture = await createImageBitmap(file).catch(() => {
        throw new Error('is not a picture');
      });
      const scale = Math.min(pad.width / picture.width, pad.height / picture.height),
        [w, h] = [picture.width * scale, picture.height * scale];
      wipe();
      pen.drawImage(picture, (pad.width - w) / 2, (pad.height - h) / 2, w, h);
      const area = [(pad.width - w) / 2, (pad.height - h) / 2, w, h].map(Math.round),
        data = pen.getImageData(...area),
        grey = [];
      for (let i = 0; i < data.data.length; i += 4)
        grey.push((data.data[i] + data.data[i + 1] + data.data[i + 2]) / 3);
      const paper = grey.toSorted((a, b) => a - b)[grey.length >> 1];
      grey.forEach((v, i) => {
        const ink = paper > 127 ? 255 - v : v;
        data.data.set([ink, ink, ink, 255], 4 * i);
      });
      pen.putImageData(data, area[0], area[1]);
      const image = asDigit(pad);
      if (!image) throw new Error('holds no strokes: all of it has one colour');
      await look(image);
    }

    /* a file, chosen or dropped: it is read here and sent nowhere */
    async function open(file) {
      if (!file) return;
      at('error').textContent = '';
      try {
        await (file.type.startsWith('image/') ? openPicture : openLatents)(file);
      } catch (error) {
        at('error').textContent = `${file.name}: ${error.message}.`;
      }
      at('file').value = '';
    }
    at('file').addEventListener('change', () => open(at('file').files[0]));
    home.addEventListener('dragover', (e) => e.preventDefault());
    home.addEventListener('drop', (e) => {
      e.preventDefault();
      open(e.dataTransfer.files[0]);
    });

    wipe();
    at('keep').max = at('keep').value = K;
    for (const id of ['across', 'up']) at(id).value = ''; // the first code chooses
    return recall(new URLSearchParams(location.hash.slice(1)));

    /* what the address holds; what this page did not write counts as absent */
    async function recall(asked) {
      const held = (key, read, length, good) => {
        try {
          const found = read(asked.get(key));
          return found.length === length && found.every(good) ? found : null;
        } catch {
          return null;
        }
      };
      const z = asked.has('code') && held('code', toCode, m, Number.isFinite),
        image = asked.has('image') && held('image', toImage, SIDE * SIDE, Number.isFinite),
        digit = examples[asked.get('digit')] ? asked.get('digit') : '7';
      const isClass = (text) => classes.map(String).includes(text);
      const axes = ['across', 'up'].map((id) => asked.get(id));
      if (axes.every(isClass) && axes[0] !== axes[1]) [at('across').value, at('up').value] = axes;
      if (z) await take(z);
      else if (image) await look(image);
      else
        await look(
          examples[digit].map((v) => v / 127.5 - 1),
          `digit=${digit}`,
        );
      for (const id of ['keep', 'angle']) if (asked.has(id)) at(id).value = asked.get(id);
      if (isClass(asked.get('goal'))) at('goal').value = asked.get('goal');
      if (asked.has('vector') && labels[asked.get('vector')] !== undefined) {
        choose(+asked.get('vector'));
        at('amp').value = asked.get('amp');
        touched = true;
      }
      if (asked.size > 1) await update();
    }
  }

  tell('Loading the networks …');
  load()
    .then(start)
    .then(() => {
      home.dataset.state = 'ready';
      // an address that is pasted over this one: the page itself never raises this event
      addEventListener('hashchange', () => location.reload());
    })
    .catch((error) => {
      home.dataset.state = 'failed';
      tell(
        `The playground could not start: ${error.message}.`,
        'Its files are made by <code>make docs</code>, in the folder <code>playground</code> ' +
          'beside this page.',
      );
    });
});
