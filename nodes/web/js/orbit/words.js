// What the viewer says, in every language it knows. A new language is one more entry here.

const WORDS = {
  en: {
    viewer: "orbit viewer",
    stage: "Portrait. Arrow keys turn it, plus and minus zoom, space plays, zero resets.",
    bar: "Viewer",
    play: "Turn by itself (space)",
    compare: "Compare (c)",
    reset: "Front view (0)",
    expand: "Full screen (f)",
    split: "Compare the two portraits",
    first: "compare", // as the node's inputs
    second: "portrait",
    waiting: "<b>Press Run</b> and the portrait appears here, ready to turn.",
    gone: "The views of the last run are gone. <b>Press Run</b> to make them again.",
    broken: "The views could not be shown. <b>Press Run</b> to make them again.",
    rendering: (done, total) => `rendering view ${done} of ${total}`,
    left: (clock) => `, ${clock} left`,
    seconds: (count) => `${count} s`,
    turned: (yaw, pitch) =>
      `${Math.abs(yaw)} degrees ${yaw < 0 ? "right" : "left"}, ` +
      `${Math.abs(pitch)} ${pitch < 0 ? "up" : "down"}`,
  },
  zh: {
    viewer: "环绕查看器",
    stage: "肖像。方向键转动，加号和减号缩放，空格键自动转动，数字 0 复位。",
    bar: "查看器",
    play: "自动转动（空格）",
    compare: "对比（c）",
    reset: "正面视图（0）",
    expand: "全屏（f）",
    split: "对比两个肖像",
    first: "对比",
    second: "肖像",
    waiting: "点击<b>运行</b>，肖像就会出现在这里，可以拖动旋转。",
    gone: "上次运行的视图已不存在。点击<b>运行</b>重新生成。",
    broken: "无法显示视图。点击<b>运行</b>重新生成。",
    rendering: (done, total) => `正在渲染视图 ${done}/${total}`,
    left: (clock) => `，剩余 ${clock}`,
    seconds: (count) => `${count} 秒`,
    turned: (yaw, pitch) =>
      `向${yaw < 0 ? "右" : "左"} ${Math.abs(yaw)} 度，向${pitch < 0 ? "上" : "下"} ${Math.abs(pitch)} 度`,
  },
};

export const LANGUAGES = Object.keys(WORDS);

/** Returns the words for a locale such as "zh" or "zh-TW"; English for one that is not here. */
export function wordsFor(locale) {
  const language = String(locale ?? "").split("-")[0];
  return Object.hasOwn(WORDS, language) ? WORDS[language] : WORDS.en;
}
