// Standard normal numbers, reproducible in every browser.

// Returns a function that returns the next number: hashed counter, then the Box-Muller transform.
function normals(seed) {
  const scramble = (bits) => {
    bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
    bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
    return (bits ^ (bits >>> 16)) >>> 0;
  };
  let count = scramble(seed + 1);
  const uniform = () => {
    count = (count + 0x9e3779b9) >>> 0;
    return (scramble(count) + 0.5) / 2 ** 32; // above 0, because of the logarithm
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
