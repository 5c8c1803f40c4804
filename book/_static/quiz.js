/* A quiz shows the reason of the answer that is chosen; see _ext/quiz.py. */
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".quiz").forEach((quiz) => {
    const reasons = [...quiz.querySelectorAll(".quiz-why")];
    reasons.forEach((reason) => { reason.hidden = true; reason.setAttribute("role", "status"); });
    quiz.querySelectorAll("input").forEach((answer, i) => {
      answer.addEventListener("change", () => {
        reasons.forEach((reason, j) => { reason.hidden = i !== j; });
      });
    });
  });
});
