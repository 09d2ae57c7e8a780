// The page's payload: a description in JSON, and arrays in half precision, as base64.

// Returns {...description, arrays: name -> {shape, values}}.
function readPayload(description, base64) {
  const payload = JSON.parse(description);
  const binary = atob(base64.trim());
  if (binary.length !== 2 * payload.size) throw new Error(`${binary.length} bytes instead of ${2 * payload.size}`);
  const table = halves(), numbers = new Float32Array(payload.size);
  for (let i = 0; i < payload.size; i++) {
    numbers[i] = table[binary.charCodeAt(2 * i) | (binary.charCodeAt(2 * i + 1) << 8)];
  }
  const arrays = {};
  for (const [name, { start, shape }] of Object.entries(payload.arrays)) {
    arrays[name] = { shape, values: numbers.subarray(start, start + shape.reduce((a, b) => a * b, 1)) };
  }
  return { ...payload, arrays };
}

// Values of all 65,536 float16 bit patterns; wrong for infinities and NaN, which never occur.
function halves() {
  return Float32Array.from({ length: 65536 }, (_, bits) => {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
    return bits & 32768 ? -size : size;
  });
}
