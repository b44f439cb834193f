"use strict";
// The viewer: slices in one canvas, surfaces in the other. NiiVue draws; this says what and when.
(async () => {
  const started = performance.now();
  const element = (id) => document.getElementById(id);
  const readout = element("readout");
  const bytes = (text) => {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
    const raw = atob(text);
    const found = new Uint8Array(raw.length);
    for (let place = 0; place < raw.length; place++) found[place] = raw.charCodeAt(place);
    return found;
  };
  const payload = JSON.parse(element("payload").textContent);
  const hasLayer = (name) => element(`layer-${name}`) !== null;

  async function loadLibrary() {
    const packed = new Blob([bytes(element("library").textContent)]).stream();
    const code = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).blob();
    const script = document.createElement("script");
    script.src = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    await new Promise((done, fail) => { script.onload = done; script.onerror = fail; document.head.append(script); });
    return window.niivue;
  }

  const layer = (library, name, options) => library.NVImage.loadFromBase64(
    { base64: element(`layer-${name}`).textContent, name: `${name}.nii.gz`, ...options });
  const colours = (entries) => ({
    R: entries.map((entry) => entry.rgb[0]), G: entries.map((entry) => entry.rgb[1]), B: entries.map((entry) => entry.rgb[2]),
    A: entries.map((entry) => (entry.index ? 255 : 0)), I: entries.map((entry) => entry.index),
    labels: entries.map((entry) => entry.name),
  });
  const nothing = { index: 0, name: "", rgb: [0, 0, 0] };
  const tissues = [nothing, { index: 1, name: "fat", rgb: [240, 228, 66] }, { index: 2, name: "mixed", rgb: [230, 159, 0] },
    { index: 3, name: "lean", rgb: [0, 114, 178] }];
  const structures = [nothing, ...payload.structures];

  async function showSlices(library) {
    const view = new library.Niivue({
      isRadiologicalConvention: true, sagittalNoseLeft: true, crosshairWidth: 1, crosshairColor: [1, 0.85, 0, 0.8],
      multiplanarShowRender: library.SHOW_RENDER.NEVER, backColor: [0, 0, 0, 1], show3Dcrosshair: false,
      isResizeCanvas: true, logLevel: "error", viewModeHotKey: "", clipPlaneHotKey: "", dragAndDropEnabled: false,
    });
    await view.attachToCanvas(element("slices"));
    view.setSliceType(view.sliceTypeMultiplanar);
    const made = {
      ct: [{ colormap: "gray", cal_min: -150, cal_max: 350 }],
      labels: [{ opacity: hasLayer("ct") ? 0.4 : 1 }, structures],
      doubt: [{ colormap: "inferno", cal_min: payload.doubt.top / 25, cal_max: payload.doubt.top, opacity: 0 }],
      tissue: [{ opacity: 0 }, tissues],
    };
    const layers = {};
    // A layer is unpacked when it is first asked for, and all new ones are drawn at once: that, and not
    // the drawing, is what takes time.
    const need = async (...names) => {
      for (const name of names) {
        if (layers[name] || !hasLayer(name)) continue;
        const [options, labels] = made[name];
        const image = await layer(library, name, options);
        if (labels) image.setColormapLabel(colours(labels));
        layers[name] = image;
        view.volumes.push(image);
      }
      [view.back, ...view.overlays] = view.volumes;
      view.updateGLVolume();
    };
    await need("ct", "labels");
    return { view, layers, need };
  }

  async function showSurfaces(library) {
    const view = new library.Niivue({
      backColor: [1, 1, 1, 1], show3Dcrosshair: false, isResizeCanvas: true, logLevel: "error", isOrientCube: true,
      viewModeHotKey: "", clipPlaneHotKey: "", dragAndDropEnabled: false,
    });
    await view.attachToCanvas(element("solid"));
    view.setSliceType(view.sliceTypeRender);
    const meshes = await Promise.all(payload.meshes.map(async (one) => {
      const value = parseInt(one.color.slice(1), 16);
      const rgba = [value >> 16, (value >> 8) & 255, value & 255, 255];
      const mesh = await library.NVMesh.readMesh(bytes(one.mz3).buffer, "surface.mz3", view.gl, 1, new Uint8Array(rgba));
      return { ...one, rgba, mesh };
    }));
    view.meshes = meshes.map((one) => one.mesh);
    view.updateGLVolume();
    view.setRenderAzimuthElevation(170, 8);
    view.setScale(0.8);
    return { view, meshes };
  }

  function describe(place, layers) {
    const at = (name) => place.values.find((value) => value.id === layers[name]?.id)?.value;
    const mm = [...place.mm].slice(0, 3).map((value) => value.toFixed(0)).join(", ");
    const parts = [`${mm} mm`];
    if (layers.ct) parts.push(`${Math.round(at("ct"))} HU`);
    const index = at("labels");
    const structure = structures.find((one) => one.index === index || one.name === index);
    if (structure && structure.index) parts.push(structure.name);
    if (layers.doubt) parts.push(`${payload.doubt.name} ${Number(at("doubt")).toExponential(1)}`);
    return parts.join(" · ");
  }

  try {
    if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this browser has no WebGL 2");
    const library = await loadLibrary();
    document.documentElement.dataset.library = (performance.now() - started).toFixed(0);
    const { view, layers, need } = await showSlices(library);
    const redraw = () => { view.updateGLVolume(); };
    view.onLocationChange = (place) => { readout.textContent = describe(place, layers); };

    const shown = { labels: element("show-labels"), doubt: element("show-doubt"), tissue: element("show-tissue") };
    const opacity = { labels: element("opacity-labels"), doubt: element("opacity-doubt") };
    const refresh = async () => {
      await need(...Object.keys(shown).filter((name) => shown[name].checked));
      for (const [name, box] of Object.entries(shown))
        if (layers[name]) layers[name].opacity = box.checked ? (opacity[name] ? opacity[name].value / 100 : 0.75) : 0;
      if (!hasLayer("ct")) layers.labels.opacity = shown.labels.checked ? 1 : 0;
      redraw();
    };
    [...Object.values(shown), ...Object.values(opacity)].forEach((input) => input.addEventListener("input", refresh));

    const windows = [...document.querySelectorAll("button.window")];
    const choose = (button) => {
      if (button.disabled) return;
      windows.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      layers.ct.cal_min = Number(button.dataset.low);
      layers.ct.cal_max = Number(button.dataset.high);
      redraw();
    };
    windows.forEach((button) => button.addEventListener("click", () => choose(button)));

    const go = (mm) => {
      view.scene.crosshairPos = view.mm2frac(mm);
      view.createOnLocationChange();
      view.drawScene();
      element("viewer").scrollIntoView({ behavior: "instant", block: "start" });
    };
    let solid = null;
    const dim = (name) => {
      if (!solid) return;
      for (const one of solid.meshes) one.mesh.opacity = !name || one.name === name ? 1 : 0.12;
      solid.view.drawScene();
    };
    for (const button of document.querySelectorAll("button.go"))
      button.addEventListener("click", () => { go(button.dataset.mm.split(",").map(Number)); dim(button.dataset.name); });

    const move = (step) => { view.moveCrosshairInVox(0, 0, step); };
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input:not([type])")) return;
      const box = { q: shown.labels, w: shown.doubt, e: shown.tissue }[event.key];
      if (box && !box.disabled) { box.checked = !box.checked; refresh(); }
      if (windows[event.key - 1]) choose(windows[event.key - 1]);
      if (document.activeElement === element("slices") && /^Arrow(Up|Down)$/.test(event.key)) {
        event.preventDefault();
        move(event.key === "ArrowUp" ? 1 : -1);
      }
    });
    const first = document.querySelector("ul.first button.go, button.go");
    if (first) { view.scene.crosshairPos = view.mm2frac(first.dataset.mm.split(",").map(Number)); view.createOnLocationChange(); }
    view.drawScene();
    document.documentElement.dataset.slices = (performance.now() - started).toFixed(0);

    solid = await showSurfaces(library);
    const filter = () => {
      const wanted = element("surfaces").value;
      const byFlag = element("colours")?.value === "flag";
      const flagged = { failed: [179, 38, 30, 255], inaccurate: [230, 159, 0, 255], unknown: [120, 120, 120, 255], ok: [130, 190, 220, 255] };
      for (const one of solid.meshes) {
        one.mesh.visible = wanted === "all" || (wanted === "flagged" ? /failed|inaccurate/.test(one.flag) : one.tissue === wanted);
        one.mesh.rgba255 = new Uint8Array(byFlag ? flagged[one.flag] ?? one.rgba : one.rgba);
        one.mesh.updateMesh(solid.view.gl);
      }
      dim(null);
    };
    element("surfaces").addEventListener("input", filter);
    element("colours")?.addEventListener("input", filter);
    document.documentElement.dataset.ready = (performance.now() - started).toFixed(0);
  } catch (error) {
    readout.textContent = `The viewer could not start (${error.message}). Numbers, histograms and the preview below do not need it.`;
    document.documentElement.dataset.failed = String(error.stack ?? error);
  }
})();
